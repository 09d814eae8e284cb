// What each entry of the package costs a page: bundled and minified by esbuild, compressed by gzip -9, in bytes.
// React and what only some pages load (the highlighter) are left out; everything else an entry imports is counted: at
// once, or later if it is imported when it is needed. Budgets are what is reached and a little more, so that nothing grows
// unseen. Without one: what a page has of the core that imports one name.
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const KIB = 1024;
const BUDGETS = [
  { name: 'core', code: "export * from './src/index.ts'", kib: 7 },
  { name: '  openStream alone', code: "export { openStream } from './src/index.ts'" },
  { name: '  createClient alone', code: "export { createClient } from './src/index.ts'" },
  { name: 'core + ./react', code: "export * from './src/index.ts'; export * from './src/react/index.ts'", kib: 9.75 },
  { name: './fetch', code: "export * from './src/fetch.ts'", kib: 2.3 },
  { name: './markdown', code: "export * from './src/markdown/index.ts'", kib: 24 },
  { name: './ai-sdk', code: "export * from './src/ai-sdk.ts'", kib: 4.3 },
];
const LEFT_OUT = ['react', 'react/jsx-runtime', 'ai', 'highlight.js', 'highlight.js/*'];

async function measure(code) {
  const built = await build({
    stdin: { contents: code, resolveDir: new URL('..', import.meta.url).pathname, loader: 'ts' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    splitting: true,
    outdir: 'unwritten',
    external: LEFT_OUT,
    write: false,
    metafile: true,
    logLevel: 'error',
  });
  // What is imported only when it is needed is a file of its own; what the entry imports at once counts with it.
  const outputs = built.metafile.outputs;
  const first = Object.keys(outputs).find((path) => outputs[path].entryPoint === '<stdin>') ?? 'unwritten/stdin.js';
  const atOnce = new Set([first]);
  for (const path of atOnce) {
    for (const imported of outputs[path].imports) {
      if (imported.kind !== 'dynamic-import' && !imported.external) atOnce.add(imported.path);
    }
  }
  const sizeOf = (paths) =>
    built.outputFiles
      .filter((file) => paths.some((path) => file.path.endsWith(`/${path}`)))
      .reduce((bytes, file) => bytes + gzipSync(file.contents, { level: 9 }).length, 0);
  return { bytes: sizeOf([...atOnce]), lazyBytes: sizeOf(Object.keys(outputs).filter((path) => !atOnce.has(path))) };
}

const sizes = [];
for (const { name, code, kib = Infinity } of BUDGETS) {
  const { bytes, lazyBytes } = await measure(code);
  sizes.push({
    name,
    bytes,
    lazyBytes,
    budgetBytes: Number.isFinite(kib) ? Math.round(kib * KIB) : undefined,
    fits: bytes <= kib * KIB,
  });
}
if (process.argv.includes('--json')) {
  console.log(JSON.stringify(sizes));
} else {
  console.table(
    Object.fromEntries(
      sizes.map(({ name, bytes, lazyBytes, budgetBytes, fits }) => [
        name,
        {
          'KiB gzip': +(bytes / KIB).toFixed(2),
          budget: budgetBytes && +(budgetBytes / KIB).toFixed(2),
          later: +(lazyBytes / KIB).toFixed(2),
          fits,
        },
      ]),
    ),
  );
}
process.exitCode = sizes.every(({ fits }) => fits) ? 0 : 1;
