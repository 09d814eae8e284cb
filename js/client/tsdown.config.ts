import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    react: 'src/react/index.ts',
    markdown: 'src/markdown/index.ts',
    'ai-sdk': 'src/ai-sdk.ts',
    fetch: 'src/fetch.ts',
    testing: 'src/testing/index.ts',
  },
  format: ['esm', 'cjs'],
  dts: true,
  target: 'es2022',
  platform: 'neutral',
  fixedExtension: true,
});
