import { readFileSync } from 'node:fs';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { Decoder, type ServerSentEvent } from '../src/sse.js';

interface Case {
  name: string;
  input: string[];
  events: [string, string, string][];
  comments: string[];
  last_event_id: string;
  retry: number | null;
}

const { cases } = parse(readFileSync(new URL('../../../spec/conformance/sse.yaml', import.meta.url), 'utf8')) as {
  cases: Case[];
};

const bytes = (latin: string) => Uint8Array.from(latin, (character) => character.charCodeAt(0));

function read(chunks: Uint8Array[]) {
  const comments: string[] = [];
  const decoder = new Decoder({ onComment: (text) => comments.push(text) });
  const events = chunks.flatMap((chunk) => decoder.feed(chunk));
  return {
    events: events.map(({ event, data, id }) => [event, data, id]),
    comments,
    last_event_id: decoder.lastEventId,
    retry: decoder.retry ?? null,
  };
}

describe.each(cases.map((one) => [one.name, one] as const))('%s', (_, { input, ...wanted }) => {
  const { events, comments, last_event_id, retry } = wanted;
  const expected = { events, comments, last_event_id, retry };
  const whole = input.join('');

  test('as given', () => expect(read(input.map(bytes))).toEqual(expected));
  test('joined', () => expect(read([bytes(whole)])).toEqual(expected));
  test('byte by byte', () => expect(read([...whole].map(bytes))).toEqual(expected));
  test('cut in two at every place', () => {
    for (let at = 0; at <= whole.length; at++)
      expect(read([bytes(whole.slice(0, at)), bytes(whole.slice(at))]), `cut at ${at}`).toEqual(expected);
  });
});

/** What the parser of the EventSource polyfill makes of it, with ids as the specification keeps them. */
function readByOracle(chunks: Uint8Array[]) {
  const events: ServerSentEvent[] = [];
  let id = '';
  let retry: number | undefined;
  const parser = createParser({
    onId: (value) => {
      id = value;
    },
    onRetry: (value) => {
      retry = value;
    },
    onEvent: ({ event, data }) => events.push({ event: event || 'message', data, id }),
  });
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const chunk of chunks) parser.feed(utf8.decode(chunk, { stream: true }));
  return { events, id, retry };
}

const piece = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('data', 'id', 'event', 'retry', ':', ': ', '\n', '\n\n', '\r', '\r\n', ' ') },
  { weight: 2, arbitrary: fc.constantFrom('data: a\n\n', 'id: 1\n', 'event: e\n', ': hb\n', 'retry: 10\n', '\0', '7') },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 4 }) },
);
const malformed = fc.uint8Array({ maxLength: 3 });
const stream = fc.array(fc.oneof({ weight: 9, arbitrary: piece }, { weight: 1, arbitrary: malformed }), {
  maxLength: 60,
});

test('reads anything as the parser of the EventSource polyfill does, however it is cut', () => {
  const utf8 = new TextEncoder();
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 12 }), (pieces, cuts) => {
      const whole = Buffer.concat(pieces.map((one) => (typeof one === 'string' ? utf8.encode(one) : one)));
      // It takes two byte order marks for one.
      fc.pre(!whole.subarray(0, 6).equals(bytes('\xEF\xBB\xBF\xEF\xBB\xBF')));
      const places = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length];
      const chunks = places.slice(1).map((end, at) => whole.subarray(places[at], end));

      const decoder = new Decoder();
      const events = chunks.flatMap((chunk) => decoder.feed(chunk));

      const oracle = readByOracle([whole]);
      expect(events).toEqual(oracle.events);
      expect(decoder.lastEventId).toBe(oracle.id);
      expect(decoder.retry).toBe(oracle.retry);
    }),
    { numRuns: 3000 },
  );
});

test('goes on from the id it is given', () => {
  const decoder = new Decoder({ lastEventId: '7' });

  expect(decoder.feed(bytes('data: a\n\n'))).toEqual([{ event: 'message', data: 'a', id: '7' }]);
});

test.each([
  ['one line', 'x'.repeat(101)],
  ['one whole line', `data: ${'x'.repeat(101)}\n\n`],
  ['many lines', 'data: 123456789\n'.repeat(11)],
  ['a comment', `:${'x'.repeat(101)}`],
])('refuses an event beyond its bound: %s', (_, text) => {
  const decoder = new Decoder({ maxEventBytes: 100 });

  expect(() => decoder.feed(bytes(text))).toThrow(expect.objectContaining({ code: 'stream_broken' }));
});

test('takes any number of events within the bound', () => {
  const decoder = new Decoder({ maxEventBytes: 100 });

  expect(decoder.feed(bytes(`data: ${'x'.repeat(100)}\n\n`.repeat(50)))).toHaveLength(50);
});

test('takes linear time for a line of many chunks', () => {
  const decoder = new Decoder();
  const chunk = bytes('1234567');
  const begun = performance.now();

  decoder.feed(bytes('data: '));
  for (let sent = 0; sent < 4_000_000; sent += chunk.length) decoder.feed(chunk);
  const [event] = decoder.feed(bytes('\n\n'));

  expect(event?.data.length).toBeGreaterThan(3_999_999);
  // Quadratic time would be minutes.
  expect(performance.now() - begun).toBeLessThan(5_000);
});
