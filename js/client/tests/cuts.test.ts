import fc from 'fast-check';
import { expect, test } from 'vitest';
import { resumable } from '../src/fetch.js';
import { openStream } from '../src/stream.js';

const utf8 = new TextEncoder();

/** How one connection goes: after how many bytes it is cut, how, and in pieces of what size the bytes come. */
const connection = fc.record({
  bytes: fc.nat(400),
  how: fc.constantFrom('reset', 'end', 'refused', 'unreachable'),
  size: fc.integer({ min: 1, max: 64 }),
  overlap: fc.nat(2),
});

interface Fate {
  bytes: number;
  how: string;
  size: number;
  overlap: number;
}

/** A server of one log, whose connections have their fates; when they are used up, all goes well. */
function serving(frames: string[], fates: Fate[], repeats: boolean): typeof fetch {
  let number = 0;
  return async (_, init) => {
    const fate = fates[number++];
    if (fate?.how === 'unreachable' && number > 1) throw new TypeError('fetch failed');
    if (fate?.how === 'refused' && number > 1) return new Response('busy', { status: 503 });
    const seen = +(new Headers(init?.headers).get('last-event-id') ?? 0);
    if (seen === frames.length) return new Response(null, { status: 204 });
    const from = Math.max(0, seen - (repeats && fate ? fate.overlap : 0));
    const whole = utf8.encode(`${frames.slice(from).join('')}: end\n`);
    const bytes = fate ? whole.subarray(0, fate.bytes) : whole;
    const size = fate?.size ?? 1000;
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (at < bytes.length) controller.enqueue(bytes.slice(at, at + size));
        else if (fate?.how === 'reset' && bytes.length < whole.length) controller.error(new TypeError('terminated'));
        else controller.close();
        at += size;
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream', location: 'http://x.test/r/events' } });
  };
}

const text = fc.string({ unit: 'grapheme', maxLength: 12 }).map((one) => one.replaceAll(/[\r\n]/g, ''));
const log = fc
  .array(fc.tuple(text, fc.boolean()), { minLength: 1, maxLength: 12 })
  .map((events) => [
    ...events.map(([data, beats], at) => `${beats ? ': hb\n' : ''}id: ${at + 1}\ndata: ${JSON.stringify(data)}\n\n`),
    `id: ${events.length + 1}\nevent: run.completed\ndata: {}\n\n`,
  ]);
const policy = { backoffMs: 0, maxBackoffMs: 0 };

test('a stream delivers each event once, wherever its connections are cut', async () => {
  await fc.assert(
    fc.asyncProperty(log, fc.array(connection, { maxLength: 5 }), async (frames, fates) => {
      const ids: string[] = [];

      const opened = openStream('http://x.test/', { ...policy, fetch: serving(frames, fates, true) });
      for await (const { id } of opened) ids.push(id);

      expect(ids).toEqual(frames.map((_, at) => `${at + 1}`));
    }),
    { numRuns: 300 },
  );
});

test('a body is whole to the byte, wherever its connections are cut', async () => {
  await fc.assert(
    fc.asyncProperty(log, fc.array(connection, { maxLength: 5 }), async (frames, fates) => {
      const answer = await resumable(serving(frames, fates, false), policy)('http://x.test/', { method: 'POST' });

      // A heartbeat may come again with the frame that it came before.
      const said = (await answer.text()).replaceAll(': hb\n', '').replace(': end\n', '');
      expect(said).toBe(frames.join('').replaceAll(': hb\n', ''));
    }),
    { numRuns: 300 },
  );
});
