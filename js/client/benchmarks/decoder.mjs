// How fast our decoder reads, beside eventsource-parser, in seconds of CPU:
//   node benchmarks/decoder.mjs [--repeats 7] [--json FILE]
import { writeFileSync } from 'node:fs';
import { arch, cpus, loadavg, platform } from 'node:os';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { build } from 'esbuild';
import { createParser } from 'eventsource-parser';

const { values } = parseArgs({ options: { repeats: { type: 'string', default: '7' }, json: { type: 'string' } } });
const repeats = +values.repeats;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');

const source = new URL('../src/sse.ts', import.meta.url).pathname;
const built = await build({ entryPoints: [source], bundle: true, format: 'esm', target: 'es2022', write: false });
const { Decoder } = await import(`data:text/javascript,${encodeURIComponent(built.outputFiles[0].text)}`);

const utf8 = new TextEncoder();

/** Cuts every so many bytes; an event at a time if that is 0. */
function cut(events, size) {
  if (!size) return events.map((event) => utf8.encode(event));
  const bytes = utf8.encode(events.join(''));
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.subarray(at * size, (at + 1) * size));
}

const many = (count, write) => Array.from({ length: count }, (_, at) => write(at));
const tiny = many(200_000, (at) => `id: ${at}\ndata: {"token":" tok${at % 10}"}\n\n`);
const chunk = (at) =>
  `data: {"id":"chatcmpl-9f8e7d6c5b4a","object":"chat.completion.chunk","created":1760000000,"model":"gpt-x",` +
  `"choices":[{"index":0,"delta":{"content":" t${at % 10}"},"finish_reason":null}]}\n\n`;
const line = `data: ${'x'.repeat(88)}\n`;

const WORKLOADS = {
  'tiny / 64 KiB': cut(tiny, 65_536),
  'tiny / one per chunk': cut(tiny, 0),
  'openai / 16 KiB': cut(many(100_000, chunk), 16_384),
  '4 KB / 16 KiB': cut(
    many(5_000, (at) => `id: ${at}\ndata: ${'x'.repeat(4_080)}\n\n`),
    16_384,
  ),
  '1 MB of many lines / 64 KiB': cut(
    many(20, () => `${line.repeat(11_000)}\n`),
    65_536,
  ),
  '1 MB line / 7 B': cut([`data: ${'x'.repeat(1_000_000)}\n\n`], 7),
};

const READERS = {
  tailrace(chunks) {
    const decoder = new Decoder();
    let count = 0;
    for (const bytes of chunks) count += decoder.feed(bytes).length;
    return count;
  },
  'eventsource-parser'(chunks) {
    const text = new TextDecoder('utf-8', { ignoreBOM: true });
    const events = [];
    const parser = createParser({ onEvent: (event) => events.push(event) });
    let count = 0;
    for (const bytes of chunks) {
      parser.feed(text.decode(bytes, { stream: true }));
      count += events.length;
      events.length = 0;
    }
    return count;
  },
};

const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];

const results = {};
for (const [workload, chunks] of Object.entries(WORKLOADS)) {
  const seconds = Object.fromEntries(Object.keys(READERS).map((name) => [name, []]));
  const counts = new Set();
  // One repeat warms up. Each repeat has all readers take turns, so that what else runs here slows down all.
  for (let repeat = 0; repeat <= repeats; repeat++) {
    for (const [name, read] of Object.entries(READERS)) {
      // Nobody is to pay for what another one left.
      collectGarbage();
      const before = process.cpuUsage();
      counts.add(read(chunks));
      const { user, system } = process.cpuUsage(before);
      if (repeat) seconds[name].push((user + system) / 1e6);
    }
  }
  if (counts.size !== 1) throw new Error(`${workload}: they do not read the same`);
  const [events] = counts;
  const megabytes = chunks.reduce((sum, { length }) => sum + length, 0) / 1e6;
  results[workload] = Object.fromEntries(
    Object.entries(seconds).map(([name, all]) => [
      name,
      {
        events_per_second: Math.round(events / median(all)),
        megabytes_per_second: Math.round(megabytes / median(all)),
      },
    ]),
  );
}

console.table(
  Object.entries(results).map(([workload, { tailrace, 'eventsource-parser': other }]) => ({
    workload,
    'tailrace Mev/s': tailrace.events_per_second / 1e6,
    'parser Mev/s': other.events_per_second / 1e6,
    'tailrace MB/s': tailrace.megabytes_per_second,
    'parser MB/s': other.megabytes_per_second,
    ratio: +(tailrace.events_per_second / other.events_per_second).toFixed(2),
  })),
);
const machine = {
  node: process.version,
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  load: loadavg()[0],
  platform: `${platform()} ${arch()}`,
};
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, repeats, results }, null, 2)}\n`);
