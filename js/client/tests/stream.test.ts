import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Connection } from '../src/machine.js';
import type { ServerSentEvent } from '../src/sse.js';
import { openStream, type StreamOptions } from '../src/stream.js';
import { hold, json, reset, serve, silence, status, stream } from './serving.js';

/** A native frame. */
const frame = (seq: number, extra = '') => `id: ${seq}\nevent: text.delta\ndata: {"delta":"${seq}"${extra}}\n\n`;
const frames = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, at) => frame(from + at)).join('');
const completed = (seq: number) => `id: ${seq}\nevent: run.completed\ndata: {}\n\n`;

const quick: StreamOptions = { backoffMs: 1, maxBackoffMs: 5 };

async function collect(iterable: AsyncIterable<ServerSentEvent>) {
  const events: ServerSentEvent[] = [];
  for await (const event of iterable) events.push(event);
  return events;
}

const ids = (events: ServerSentEvent[]) => events.map(({ id }) => id);

let unhandled: unknown[] = [];
const note = (error: unknown) => unhandled.push(error);
beforeEach(() => {
  unhandled = [];
  process.on('unhandledRejection', note);
});
afterEach(async () => {
  await new Promise((resolve) => setTimeout(resolve));
  process.off('unhandledRejection', note);
  vi.restoreAllMocks();
  expect(unhandled).toEqual([]);
});

describe('the end', () => {
  test('is the last event of the dialect', async () => {
    const server = await serve(stream(frame(1) + completed(2)));

    const events = await collect(openStream(server.url, quick));

    expect(ids(events)).toEqual(['1', '2']);
    expect(server.asked).toHaveLength(1);
  });

  test('is the comment of our server, whatever the dialect', async () => {
    const server = await serve(stream('data: a\n\n: end\n'));

    expect(await collect(openStream(server.url, { ...quick, dialect: 'raw' }))).toHaveLength(1);
    expect(server.asked).toHaveLength(1);
  });

  test('is an answer of 204', async () => {
    const server = await serve(stream(frame(1)), status(204));

    expect(ids(await collect(openStream(server.url, quick)))).toEqual(['1']);
    expect(server.asked).toHaveLength(2);
  });

  test.each([
    ['ai-sdk', 'data: [DONE]\n\n'],
    ['openai', 'data: [DONE]\n\n'],
    ['tokens', 'data: [DONE]\n\n'],
    ['openai-responses', 'event: response.incomplete\ndata: {}\n\n'],
    ['ag-ui', 'data: {"type":"RUN_FINISHED","runId":"r"}\n\n'],
    ['ag-ui', 'data: {"type": "RUN_ERROR"}\n\n'],
    ['chunks', 'event: end\ndata:\n\n'],
    ['steps', 'event: complete\ndata: {}\n\n'],
    ['text', 'event: run.ended\ndata: {}\n\n'],
  ] as const)('is known in %s', async (dialect, last) => {
    const server = await serve(hold(`id: 1\ndata: "RUN_FINISHED" run.ended\n\nid: 2\n${last}`));

    expect(await collect(openStream(server.url, { ...quick, dialect }))).toHaveLength(2);
    await server.asked[0]?.closed;
    expect(server.asked).toHaveLength(1);
  });
});

describe('a connection that is lost', () => {
  test.each([
    ['resets', reset(frame(1) + frame(2))],
    ['ends politely', stream(frame(1) + frame(2))],
    ['ends within an event', stream(`${frame(1)}${frame(2)}id: 3\ndata: {"del`)],
  ])('is made again from the last event: it %s', async (_, first) => {
    const server = await serve(first, stream(frame(3) + completed(4)));

    expect(ids(await collect(openStream(server.url, quick)))).toEqual(['1', '2', '3', '4']);
    expect(server.asked.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '2']);
  });

  test('is made again from the same event if it brought none', async () => {
    const server = await serve(stream(frame(1)), stream(': hb\n'), stream(completed(2)));

    await collect(openStream(server.url, quick));

    expect(server.asked.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '1', '1']);
  });

  test('counts as a failure only until an event comes', async () => {
    const answers = Array.from({ length: 6 }, (_, at) => stream(frame(at + 1)));
    const server = await serve(...answers, stream(completed(7)));

    expect(await collect(openStream(server.url, { ...quick, maxAttempts: 1 }))).toHaveLength(7);
  });

  test('is made again at the same URL, if its Location has the same path', async () => {
    const server = await serve(stream(frame(1), { location: '/events' }), stream(completed(2)));

    await collect(openStream(`${server.url}/events?ticket=t`, quick));

    expect(server.asked[1]?.path).toBe('/events?ticket=t');
  });

  test('is made again where Location says', async () => {
    const server = await serve(stream(frame(1), { location: '/runs/r/events' }), stream(completed(2)));

    await collect(openStream(`${server.url}/ask?q=1`, quick));

    expect(server.asked[1]?.path).toBe('/runs/r/events');
  });

  test('is given up after so many attempts', async () => {
    const server = await serve(stream(frame(1)), stream(''));

    const reading = collect(openStream(server.url, { ...quick, maxAttempts: 3 }));

    await expect(reading).rejects.toMatchObject({ name: 'StreamBrokenError', code: 'stream_broken', attempts: 3 });
    expect(server.asked).toHaveLength(4);
  });

  test('delivers nothing twice', async () => {
    const server = await serve(stream(frames(1, 3)), stream(frames(1, 4) + completed(5)));

    expect(ids(await collect(openStream(server.url, quick)))).toEqual(['1', '2', '3', '4', '5']);
  });

  test('delivers no frame of an event twice, where an event has many', async () => {
    const server = await serve(
      stream('id: run:1\ndata: a\n\nid: run:1.1\ndata: b\n\n'),
      stream('id: run:1\ndata: a\n\nid: run:1.1\ndata: b\n\nid: run:1.2\ndata: c\n\nid: run:2\ndata: [DONE]\n\n'),
    );

    const events = await collect(openStream(server.url, { ...quick, dialect: 'tokens' }));

    expect(events.map(({ data }) => data)).toEqual(['a', 'b', 'c', '[DONE]']);
  });

  test('delivers what has no id of its own, under the id in force', async () => {
    const server = await serve(stream('id: 5\ndata: a\n\n'), stream('data: b\n\ndata: [DONE]\n\n'));

    const events = await collect(openStream(server.url, { ...quick, dialect: 'tokens' }));

    expect(events).toEqual([
      { event: 'message', data: 'a', id: '5' },
      { event: 'message', data: 'b', id: '5' },
      { event: 'message', data: '[DONE]', id: '5' },
    ]);
  });

  test('leaves the ids of any other endpoint alone', async () => {
    const server = await serve(stream('id: 5\ndata: a\n\n'), stream('id: 1\ndata: b\n\n: end\n'));

    expect(ids(await collect(openStream(server.url, { ...quick, dialect: 'raw' })))).toEqual(['5', '1']);
  });

  test('comes back with an id in bytes', async () => {
    const server = await serve(stream('id: é€\ndata: a\n\n'), status(204));

    await collect(openStream(server.url, { ...quick, dialect: 'raw' }));

    expect(Buffer.from(server.asked[1]?.headers['last-event-id'] as string, 'latin1').toString()).toBe('é€');
  });

  test('comes back without an id that was reset', async () => {
    const server = await serve(stream('id: x\ndata: a\n\nid:\ndata: b\n\n'), status(204));

    await collect(openStream(server.url, { ...quick, dialect: 'raw' }));

    expect(server.asked[1]?.headers).not.toHaveProperty('last-event-id');
  });
});

describe('a connection that says nothing', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** Streams that say what they are told to; whatever is asked gets the next one. */
  function speaking() {
    const speakers: ReadableStreamDefaultController<Uint8Array>[] = [];
    const aborts: AbortSignal[] = [];
    const answer: typeof fetch = async (_, init) => {
      if (init?.signal) aborts.push(init.signal);
      const body = new ReadableStream<Uint8Array>({ start: (speaker) => void speakers.push(speaker) });
      return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
    };
    const say = (text: string) => speakers.at(-1)?.enqueue(new TextEncoder().encode(text));
    return { answer, say, aborts, speakers };
  }

  test('is dropped; a comment is enough to keep it', async () => {
    const { answer, say, aborts } = speaking();
    const reading = collect(openStream('http://x.test', { fetch: answer }));
    await vi.advanceTimersByTimeAsync(0);

    say(frame(1));
    for (let beat = 0; beat < 10; beat++) {
      await vi.advanceTimersByTimeAsync(35_000);
      say(': hb\n');
    }
    await vi.advanceTimersByTimeAsync(35_000);
    expect(aborts).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(aborts).toHaveLength(2);
    expect(aborts[0]?.aborted).toBe(true);

    say(completed(2));
    await vi.advanceTimersByTimeAsync(0);
    expect(ids(await reading)).toEqual(['1', '2']);
  });

  test('is dropped without progress, whatever its heartbeats say', async () => {
    const { answer, say, aborts } = speaking();
    const reading = collect(openStream('http://x.test', { fetch: answer, progressMs: 60_000 }));
    await vi.advanceTimersByTimeAsync(0);

    say(frame(1));
    for (let beat = 0; beat < 5; beat++) {
      await vi.advanceTimersByTimeAsync(11_000);
      say(': hb\n');
    }
    expect(aborts).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(7_000);
    expect(aborts).toHaveLength(2);

    say(completed(2));
    await vi.advanceTimersByTimeAsync(0);
    expect(ids(await reading)).toEqual(['1', '2']);
  });

  test('is waited for no longer than for its answer', async () => {
    let asked = 0;
    const answer: typeof fetch = (_, init) =>
      new Promise((_resolve, reject) => {
        asked++;
        init?.signal?.addEventListener('abort', () => reject(init.signal?.reason));
      });
    const opened = openStream('http://x.test', { fetch: answer });

    await vi.advanceTimersByTimeAsync(37_000);

    expect(asked).toBe(2);
    opened.close();
    await vi.advanceTimersByTimeAsync(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('is waited for no longer than for the headers it is asked with', async () => {
    const { answer, aborts } = speaking();
    const headers = vi.fn(({ number }) => (number === 1 ? new Promise<HeadersInit>(() => {}) : {}));
    const opened = openStream('http://x.test', { fetch: answer, headers });

    await vi.advanceTimersByTimeAsync(37_000);

    expect([headers.mock.calls.length, aborts.length]).toEqual([2, 1]);
    opened.close();
    await vi.advanceTimersByTimeAsync(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('is kept while its events are being used', async () => {
    const { answer, say, aborts } = speaking();
    const events = openStream('http://x.test', { fetch: answer, progressMs: 60_000 })[Symbol.asyncIterator]();
    const first = events.next();
    await vi.advanceTimersByTimeAsync(0);
    say(frame(1));
    await first;

    await vi.advanceTimersByTimeAsync(600_000);
    const second = events.next();
    await vi.advanceTimersByTimeAsync(0);
    say(completed(2));

    expect((await second).value).toMatchObject({ id: '2' });
    expect(aborts).toHaveLength(1);
    await events.return?.();
    await vi.advanceTimersByTimeAsync(0);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('a native log', () => {
  test('is asked for again at a gap', async () => {
    const server = await serve(stream(frame(1) + frame(3)), stream(frame(2) + frame(3) + completed(4)));

    expect(ids(await collect(openStream(server.url, quick)))).toEqual(['1', '2', '3', '4']);
    expect(server.asked[1]?.headers['last-event-id']).toBe('1');
  });

  test('is given up at the same gap again', async () => {
    const server = await serve(stream(frame(1) + frame(3)));

    await expect(collect(openStream(server.url, quick))).rejects.toMatchObject({ code: 'stream_broken' });
    expect(server.asked).toHaveLength(2);
  });

  test('may come merged', async () => {
    const server = await serve(stream(frame(1) + frame(4, ',"first":2') + completed(5)));

    expect(ids(await collect(openStream(server.url, quick)))).toEqual(['1', '4', '5']);
  });

  test('may end without a number, which nothing could be stored under', async () => {
    const server = await serve(stream(frame(1)), stream(`${frame(1)}event: run.failed\ndata: {}\n\n`));

    const events = await collect(openStream(server.url, quick));

    expect(events.map(({ event, id }) => [event, id])).toEqual([
      ['text.delta', '1'],
      ['run.failed', '1'],
    ]);
  });

  test('may not come merged with what was delivered', async () => {
    const server = await serve(stream(frame(1) + frame(3, ',"first":1')), stream(frames(2, 3) + completed(4)));

    expect(ids(await collect(openStream(server.url, quick)))).toEqual(['1', '2', '3', '4']);
  });

  test('begins after the cursor of its URL or of the option', async () => {
    const server = await serve(stream(frame(8) + completed(9)));

    expect(await collect(openStream(`${server.url}/?after=7`, quick))).toHaveLength(2);
    expect(await collect(openStream(server.url, { ...quick, lastEventId: '7' }))).toHaveLength(2);
  });

  test('begins anew when the server says so', async () => {
    const server = await serve(
      stream(frames(1, 2)),
      stream(`event: reset\ndata: {}\n\n${frame(1)}`),
      stream(frame(2) + completed(3)),
    );

    const events = await collect(openStream(server.url, quick));

    expect(events.map(({ event, id }) => [event, id])).toEqual([
      ['text.delta', '1'],
      ['text.delta', '2'],
      ['reset', ''],
      ['text.delta', '1'],
      ['text.delta', '2'],
      ['run.completed', '3'],
    ]);
    expect(server.asked[2]?.headers['last-event-id']).toBe('1');
  });

  test('goes on when the server asks to come back, which is no failure', async () => {
    const back = 'retry: 1\nevent: reconnect\ndata: {}\n\n';
    const server = await serve(hold(frame(1) + back), hold(back), hold(back), stream(completed(2)));

    const events = await collect(openStream(server.url, { ...quick, maxAttempts: 1 }));

    expect(ids(events)).toEqual(['1', '2']);
  });
});

describe('an answer', () => {
  test.each([404, 403, 400, 410])('of %d is final', async (code) => {
    const server = await serve(json(code, { error: { code: 'run_not_found', message: 'There is no such run.' } }));

    await expect(collect(openStream(server.url, quick))).rejects.toMatchObject({
      name: 'RequestRefusedError',
      code: 'request_refused',
      status: code,
      errorCode: 'run_not_found',
      message: 'There is no such run.',
    });
    expect(server.asked).toHaveLength(1);
  });

  test.each([500, 502, 503, 429, 408])('of %d is asked for again', async (code) => {
    const server = await serve(status(code), stream(completed(1)));

    expect(await collect(openStream(server.url, quick))).toHaveLength(1);
  });

  test('says how long to wait', async () => {
    const server = await serve(status(503, { 'retry-after': '1' }), stream(completed(1)));
    const begun = Date.now();

    await collect(openStream(server.url, quick));

    expect(Date.now() - begun).toBeGreaterThanOrEqual(990);
  });

  test.each([
    ['a page', status(200, { 'content-type': 'text/html' }, '<p>'), 'text/html', undefined],
    ['a document', json(200, { status: 'completed' }), 'application/json', { status: 'completed' }],
    ['nothing', status(200), '', undefined],
  ])('that is no stream is final: %s', async (_, answer, contentType, document) => {
    const server = await serve(answer);

    const opened = openStream(server.url, quick);

    await expect(collect(opened)).rejects.toMatchObject({ name: 'NotAStreamError', contentType, document });
    await expect(opened.opened).rejects.toMatchObject({ code: 'not_a_stream' });
    expect(server.asked).toHaveLength(1);
  });

  test('may name its type in any case, with parameters', async () => {
    const server = await serve(stream(completed(1), { 'content-type': 'Text/Event-Stream; Charset=UTF-8' }));

    expect(await collect(openStream(server.url, quick))).toHaveLength(1);
  });

  test('without a body is a lost connection', async () => {
    const bodies = [null, completed(1)];
    const answer = async () => new Response(bodies.shift(), { headers: { 'content-type': 'text/event-stream' } });

    expect(await collect(openStream('http://x.test', { ...quick, fetch: answer }))).toHaveLength(1);
  });

  test('with a redirect but no Location is final', async () => {
    const server = await serve(status(302));

    await expect(collect(openStream(server.url, quick))).rejects.toMatchObject({ status: 302 });
  });

  test('of 401 has the headers asked for once more', async () => {
    const server = await serve(status(401), stream(frame(1)), status(401), stream(completed(2)));
    const attempts: unknown[] = [];
    const headers = (attempt: object) => {
      attempts.push(attempt);
      return { authorization: `Bearer ${attempts.length}` };
    };

    await collect(openStream(server.url, { ...quick, headers }));

    expect(attempts).toEqual([
      { number: 1, status: undefined },
      { number: 2, status: 401 },
      { number: 3, status: undefined },
      { number: 4, status: 401 },
    ]);
    expect(server.asked[3]?.headers.authorization).toBe('Bearer 4');
  });

  test('of 401 is final if fresh headers do not help, or are not to be had', async () => {
    const server = await serve(status(401));

    await expect(collect(openStream(server.url, { headers: () => ({}) }))).rejects.toMatchObject({ status: 401 });
    expect(server.asked).toHaveLength(2);
    await expect(collect(openStream(server.url, { headers: {} }))).rejects.toMatchObject({ status: 401 });
    expect(server.asked).toHaveLength(3);
  });
});

describe('nonsense', () => {
  test.each(['http://[', 'javascript:0', 'file:///etc/passwd'])('in a Location, %s, is none', async (location) => {
    const server = await serve(stream(frame(1), { location }), stream(completed(2)));

    expect((await collect(openStream(server.url, quick))).map(({ id }) => id)).toEqual(['1', '2']);
    expect(server.asked.map(({ path }) => path)).toEqual(['/', '/']);
  });

  test('in data, which is no JSON, is handed on', async () => {
    const odd = 'id: 1\nevent: odd\ndata: "first":\n\n';
    const server = await serve(stream(odd + completed(2)));

    expect((await collect(openStream(server.url, quick))).map(({ data }) => data)[0]).toBe('"first":');
  });

  test('in an id, which fits in no header, breaks the stream', async () => {
    const server = await serve(stream('id: a\x0cb\ndata: 1\n\n'));

    await expect(collect(openStream(server.url, { ...quick, dialect: 'raw' }))).rejects.toMatchObject({
      code: 'stream_broken',
    });
  });

  test('of a length that nobody needs, in an id, is sent', async () => {
    const id = 'é'.repeat(6_000);
    const server = await serve(stream(`id: ${id}\ndata: 1\n\n`), status(204));

    expect(await collect(openStream(server.url, { ...quick, dialect: 'raw' }))).toHaveLength(1);
  });
});

describe('a POST', () => {
  const post = { ...quick, method: 'POST', body: '{"a":1}' };

  test('is sent once, and resumed by GET where its answer says', async () => {
    const server = await serve(stream(frame(1), { location: '/runs/r/events?dialect=native' }), stream(completed(2)));

    const opened = openStream(`${server.url}/chat`, {
      ...post,
      headers: { authorization: 'Bearer t', 'idempotency-key': 'k' },
    });
    await collect(opened);

    expect(server.asked.map(({ method, path, body }) => [method, path, body])).toEqual([
      ['POST', '/chat', '{"a":1}'],
      ['GET', '/runs/r/events?dialect=native', ''],
    ]);
    expect(server.asked.map(({ headers }) => headers['idempotency-key'])).toEqual(['k', undefined]);
    expect(server.asked[1]?.headers.authorization).toBe('Bearer t');
    expect(opened.url).toBe(`${server.url}/runs/r/events?dialect=native`);
  });

  test('cannot be resumed without Location', async () => {
    const server = await serve(stream(frame(1)));

    await expect(collect(openStream(server.url, post))).rejects.toMatchObject({ reason: 'no Location' });
    expect(server.asked).toHaveLength(1);
  });

  test('is not repeated without a key', async () => {
    const server = await serve(status(503));

    await expect(collect(openStream(server.url, post))).rejects.toMatchObject({ status: 503 });
    await expect(collect(openStream('http://127.0.0.1:9/', post))).rejects.toMatchObject({ code: 'stream_broken' });
    expect(server.asked).toHaveLength(1);
  });

  test('is repeated with a key if nothing was answered', async () => {
    const server = await serve(
      (response) => void response.socket?.resetAndDestroy(),
      status(503),
      stream(completed(1)),
    );

    await collect(openStream(server.url, { ...post, headers: { 'idempotency-key': 'k' } }));

    expect(server.asked.map(({ body }) => body)).toEqual(['{"a":1}', '{"a":1}', '{"a":1}']);
  });

  test('that is answered 202 is followed', async () => {
    const server = await serve(json(202, {}, { location: '/runs/r/events' }), stream(completed(1)));

    const opened = openStream(server.url, post);

    expect((await opened.opened)?.status).toBe(202);
    expect(await collect(opened)).toHaveLength(1);
    expect(server.asked[1]?.method).toBe('GET');
  });

  test('of somebody else is taken over', async () => {
    const server = await serve(stream(frame(1), { location: '/runs/r/events' }), stream(completed(2)));
    const response = await fetch(`${server.url}/chat`, { method: 'POST', body: 'x' });

    expect(await collect(openStream(`${server.url}/chat`, { ...post, response }))).toHaveLength(2);
    expect(server.asked.map(({ method }) => method)).toEqual(['POST', 'GET']);
  });

  test('does not give its credentials to another origin', async () => {
    const other = await serve(stream(completed(2)));
    const server = await serve(stream(frame(1), { location: `${other.url}/runs/r/events` }));

    await collect(
      openStream(server.url, { ...post, headers: { authorization: 'Bearer t', cookie: 'a=b', 'x-a': '1' } }),
    );

    for (const name of ['authorization', 'cookie', 'x-a']) expect(other.asked[0]?.headers).not.toHaveProperty(name);
  });
});

describe('closing', () => {
  const soon = async (closed: Promise<unknown>) => {
    const begun = Date.now();
    await closed;
    // Nothing that is waited for here would take less than a minute.
    expect(Date.now() - begun).toBeLessThan(1000);
  };

  test('ends a connection that is being made', async () => {
    const server = await serve(silence);
    const opened = openStream(server.url, quick);
    const reading = collect(opened);
    await server.arrived(1);

    opened.close();

    await soon(Promise.all([reading, server.asked[0]?.closed]));
    expect(await opened.opened).toBeUndefined();
    expect(server.asked).toHaveLength(1);
  });

  test('ends a connection that nothing else would end', async () => {
    const opened = openStream('http://x.test', { headers: () => new Promise(() => {}) });
    const deaf = openStream('http://x.test', { fetch: () => new Promise(() => {}) });
    const reading = Promise.all([collect(opened), collect(deaf), opened.opened, deaf.opened]);

    opened.close();
    deaf.close();

    await soon(reading);
  });

  test('ends a read', async () => {
    const server = await serve(hold(frame(1)));
    const aborting = new AbortController();
    const events = openStream(server.url, { ...quick, signal: aborting.signal })[Symbol.asyncIterator]();
    await events.next();
    const next = events.next();

    aborting.abort();

    await soon(Promise.all([next, server.asked[0]?.closed]));
    expect(await next).toEqual({ done: true, value: undefined });
    expect(server.asked).toHaveLength(1);
  });

  test('ends a wait', async () => {
    const server = await serve(status(503, { 'retry-after': '60' }));
    const opened = openStream(server.url, { onConnection: ({ state }) => state === 'waiting' && opened.close() });

    await soon(collect(opened));

    expect(server.asked).toHaveLength(1);
    expect(opened.connection.state).toBe('closed');
  });

  test('ends a read that nothing else would end, and listens to nothing any more', async () => {
    const page = new EventTarget();
    const signals: (AbortSignal | undefined)[] = [];
    vi.stubGlobal('addEventListener', (type: string, listener: () => void, options: AddEventListenerOptions) => {
      signals.push(options.signal);
      page.addEventListener(type, listener, options);
    });
    const body = new ReadableStream<Uint8Array>({ cancel: () => new Promise(() => {}) });
    const fetch = async () => new Response(body, { headers: { 'content-type': 'text/event-stream' } });
    const opened = openStream('http://x.test', { fetch });
    const events = opened[Symbol.asyncIterator]();
    const next = events.next();
    await opened.opened;

    await events.return?.();

    await soon(next);
    expect(signals.map((signal) => signal?.aborted)).toEqual([true, true, true]);
    vi.unstubAllGlobals();
  });

  test('is what leaving the loop does', async () => {
    const server = await serve(hold(frames(1, 5)));
    const opened = openStream(server.url, quick);

    for await (const { id } of opened) if (id === '2') break;

    await soon(server.asked[0]?.closed as Promise<void>);
    expect(opened.lastEventId).toBe('2');
    expect(opened.connection.state).toBe('closed');
    expect(() => opened[Symbol.asyncIterator]()).toThrow(TypeError);
  });

  test('before the start makes no request', async () => {
    const server = await serve(stream(completed(1)));

    expect(await collect(openStream(server.url, { signal: AbortSignal.abort() }))).toEqual([]);
    expect(server.asked).toHaveLength(0);
  });

  test('within the loop ends it, though more was read', async () => {
    const server = await serve(hold(frames(1, 5)));
    const opened = openStream(server.url, quick);
    const seen: string[] = [];

    for await (const { id } of opened) {
      seen.push(id);
      opened.close();
    }

    expect(seen).toEqual(['1']);
  });

  test('of the answer that was taken over closes it', async () => {
    const server = await serve(hold(frame(1), { location: '/runs/r/events' }));
    const response = await fetch(server.url, { method: 'POST' });
    const opened = openStream(server.url, { ...quick, method: 'POST', response });
    const reading = collect(opened);

    opened.close();

    await soon(Promise.all([reading, server.asked[0]?.closed]));
  });
});

describe('the connection', () => {
  test('tells its states', async () => {
    const server = await serve(stream(frame(1)), stream(completed(2)));
    const told: Connection[] = [];
    const opened = openStream(server.url, { ...quick, onConnection: (now) => told.push(now) });

    await collect(opened);
    await Promise.resolve();

    expect(told.map(({ state, attempt, error }) => [state, attempt, !!error])).toEqual([
      ['connecting', 1, false],
      ['open', 1, false],
      ['waiting', 1, true],
      ['connecting', 2, true],
      ['open', 2, true],
      ['open', 2, false],
      ['closed', 2, false],
    ]);
    expect(told[2]?.retryAt).toBeGreaterThan(Date.now() - 1000);
  });

  test('is made at once when asked to', async () => {
    const server = await serve(status(503, { 'retry-after': '60' }), stream(completed(1)));
    const opened = openStream(server.url);
    opened.onConnection(({ state }) => state === 'waiting' && opened.retryNow());

    expect(await collect(opened)).toHaveLength(1);
  });

  test('is made at once when the page is online again', async () => {
    const page = new EventTarget();
    vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
    vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
    const server = await serve(status(503, { 'retry-after': '60' }), stream(completed(1)));
    const wake = ({ state }: Connection) => state === 'waiting' && page.dispatchEvent(new Event('online'));

    expect(await collect(openStream(server.url, { onConnection: wake }))).toHaveLength(1);
    vi.unstubAllGlobals();
  });

  test('survives a listener that throws', async () => {
    const caught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => caught.push(error));
    const server = await serve(stream(completed(1)));

    const events = await collect(
      openStream(server.url, {
        onConnection: () => {
          throw Error('theirs');
        },
      }),
    );

    await new Promise((resolve) => setImmediate(resolve));
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect(events).toHaveLength(1);
    expect(caught).not.toHaveLength(0);
  });

  test('says who asks, but to no other origin than the page has', async () => {
    const server = await serve(stream(completed(1)));

    await collect(openStream(server.url));
    vi.stubGlobal('location', new URL('http://page.test/'));
    await collect(openStream(server.url));
    vi.unstubAllGlobals();

    expect(server.asked.map(({ headers }) => headers['tailrace-client'])).toEqual(['js/0.1.0', undefined]);
  });
});

describe('waits', () => {
  const ALMOST_1 = 1 - 2 ** -53;
  const NOW = 1_800_000_000_000;

  /** How long the stream waits after each failure; they are spent at once. */
  async function delays(answers: Parameters<typeof serve>, options: StreamOptions, random: number) {
    vi.spyOn(Math, 'random').mockReturnValue(random);
    vi.spyOn(Date, 'now').mockReturnValue(NOW);
    const server = await serve(...answers);
    const waits: number[] = [];
    const opened = openStream(server.url, {
      maxAttempts: answers.length,
      ...options,
      onConnection: ({ state, retryAt = 0 }) => {
        if (state !== 'waiting') return;
        waits.push(Math.round(retryAt - NOW));
        opened.retryNow();
      },
    });
    await collect(opened).catch(() => {});
    return waits;
  }

  test('double up to the longest', async () => {
    const answers = Array.from({ length: 8 }, () => status(500)) as unknown as Parameters<typeof serve>;

    expect(await delays(answers, {}, ALMOST_1)).toEqual([1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  });

  test('are random from nothing on', async () => {
    expect(await delays([status(500), status(500), status(500)], {}, 0)).toEqual([0, 0]);
  });

  test('begin at what the server asks for, within limits', async () => {
    const asking = (retry: number) => stream(`retry: ${retry}\nid: 1\ndata: a\n\n`);

    expect(await delays([asking(3000), stream('')], { dialect: 'raw', maxAttempts: 1 }, ALMOST_1)).toEqual([3000]);
    expect(await delays([asking(0), stream('')], { dialect: 'raw', maxAttempts: 1 }, ALMOST_1)).toEqual([100]);
    expect(await delays([asking(1e9), stream('')], { dialect: 'raw', maxAttempts: 1 }, ALMOST_1)).toEqual([15000]);
  });

  test('are what the server asks for, and up to half as long again, when it asks to come back', async () => {
    const back = stream('retry: 2000\nevent: reconnect\ndata: {}\n\n');

    expect(await delays([back, status(404)], {}, 0)).toEqual([2000]);
    expect(await delays([back, status(404)], {}, ALMOST_1)).toEqual([3000]);
  });

  test('are bounded, whatever Retry-After says', async () => {
    const asking = (value: string) => status(503, { 'retry-after': value });
    const date = new Date(NOW + 30_000).toUTCString();

    expect(await delays([asking('999999'), status(500)], {}, 0)).toEqual([300_000]);
    expect(await delays([asking(date), status(500)], {}, 0)).toEqual([30_000]);
    expect(await delays([asking('soon'), status(500)], {}, 0)).toEqual([0]);
  });

  test('spread those who were dropped together', async () => {
    const bins = new Map<number, number>();
    let failed = 0;
    const wait = () =>
      new Promise<void>((resolve) => {
        const opened = openStream('http://x.test', {
          fetch: async () => {
            failed++;
            throw new TypeError('fetch failed');
          },
          onConnection: ({ state, retryAt = 0 }) => {
            if (state !== 'waiting') return;
            const bin = Math.floor((retryAt - begun) / 100);
            bins.set(bin, (bins.get(bin) ?? 0) + 1);
            opened.close();
            resolve();
          },
        });
      });
    const begun = Date.now();

    await Promise.all(Array.from({ length: 1000 }, wait));

    expect(failed).toBe(1000);
    expect(Math.max(...bins.values())).toBeLessThan(200);
  });
});

test('reads no further than it is asked to', async () => {
  let sent = 0;
  let announce = () => {};
  const full = new Promise<void>((resolve) => {
    announce = resolve;
  });
  const server = await serve((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const more = () => {
      while (response.write(`id: ${++sent}\ndata: ${'x'.repeat(100_000)}\n\n`));
      announce();
    };
    more();
    response.on('drain', more);
  });
  const events = openStream(server.url, { ...quick, dialect: 'raw' });

  for await (const _ of events) {
    await full;
    await new Promise((resolve) => setTimeout(resolve, 200));
    break;
  }

  // What fits into the buffers of two sockets, and no more.
  expect(sent).toBeLessThan(200);
});

test('says what is wrong with an address', () => {
  expect(() => openStream('/runs')).toThrow(TypeError);
  expect(() => openStream('http://x.test', { dialect: 'klingon' as never })).toThrow(TypeError);
});
