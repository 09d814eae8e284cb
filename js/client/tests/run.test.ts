import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Event } from '../src/events.gen.js';
import { createClient, type Run, RunFailedError, StreamBrokenError } from '../src/index.js';
import { eventStream, refusal, runServer, scriptedFetch } from '../src/testing/index.js';

const text = (delta: string): Event => ({ type: 'text.delta', message_id: 'm', part_id: 'p', delta });
const completed: Event = { type: 'run.completed', finish_reason: 'stop', result: { answer: 42 } };
const ANSWER = [text('Hel'), text('lo'), completed];

const clientOf = (server: { fetch: typeof fetch }, options = {}) =>
  createClient({ baseUrl: 'http://test', fetch: server.fetch, backoffMs: 1, maxBackoffMs: 1, ...options });

const json = (value: unknown, status = 200, headers = {}) =>
  new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json', ...headers } });

async function typesOf(run: Run, upto = Number.POSITIVE_INFINITY) {
  const types: string[] = [];
  for await (const event of run) if (types.push(event.type) >= upto) break;
  return types;
}

afterEach(() => vi.unstubAllGlobals());

describe('starting', () => {
  it('posts the body with a key of its own, and has the id before any event', async () => {
    const server = runServer();
    const client = clientOf(server);

    const run = await client.run({ message: 'hi' });

    expect(run.id).toBe(server.runId);
    expect(run.url).toBe('http://test/runs/run_test/events');
    expect([run.cursor, run.status, run.connection.state]).toEqual([0, 'running', 'connecting']);
    const [asked] = server.fetch.asked;
    expect([asked?.method, asked?.path, asked?.body]).toEqual(['POST', '/chat', '{"message":"hi"}']);
    expect(asked?.headers.get('content-type')).toBe('application/json');
    expect(asked?.headers.get('idempotency-key')?.length).toBeGreaterThan(19);
    run.close();
  });

  it('asks again with the same key and fresh headers where nothing was answered', async () => {
    const server = runServer({ events: ANSWER, refuse: [new TypeError('no network'), 503] });
    const client = clientOf(server, {
      headers: async ({ number }: { number: number }) => ({ authorization: `Bearer ${number}` }),
    });

    const run = await client.run({});

    expect(await run.text()).toBe('Hello');
    const { asked } = server.fetch;
    expect(asked.map(({ method }) => method)).toEqual(['POST', 'POST', 'POST']);
    expect(new Set(asked.map(({ headers }) => headers.get('idempotency-key'))).size).toBe(1);
    expect(asked.map(({ headers }) => headers.get('authorization'))).toEqual(['Bearer 1', 'Bearer 2', 'Bearer 3']);
  });

  it('takes a key and a path of the caller', async () => {
    const server = runServer({ events: ANSWER });

    const run = await clientOf(server, { baseUrl: 'http://test/app' }).run({}, { key: 'k', path: 'ask' });

    expect(server.fetch.asked[0]?.path).toBe('/app/ask');
    expect(server.fetch.asked[0]?.headers.get('idempotency-key')).toBe('k');
    run.close();
  });

  it('throws what the server says', async () => {
    const client = clientOf({ fetch: scriptedFetch(refusal(422, 'request_invalid')) });

    await expect(client.run({})).rejects.toMatchObject({
      code: 'request_refused',
      status: 422,
      errorCode: 'request_invalid',
    });
  });

  it('throws the reason of an abort before there was an answer', async () => {
    const stopping = new AbortController();
    const client = clientOf({
      fetch: scriptedFetch(() => {
        stopping.abort();
        return 503;
      }),
    });

    await expect(client.run({}, { signal: stopping.signal })).rejects.toThrow('aborted');
  });

  it('follows a run that is answered by where it is to be found', async () => {
    const server = runServer({
      events: ANSWER,
      refuse: [json({ run_id: 'run_test' }, 202, { location: '/runs/run_test/events' })],
    });

    const run = await clientOf(server).run({});

    expect(run.id).toBe('run_test');
    expect(await run.text()).toBe('Hello');
    expect(server.fetch.asked.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /chat',
      'GET /runs/run_test/events',
    ]);
  });

  it('takes a run that is answered as one document', async () => {
    const document = {
      run_id: 'r1',
      status: 'completed',
      seq: 4,
      text: 'Hello',
      messages: [{ role: 'assistant', parts: [{ type: 'text', text: 'Hello' }] }],
      result: 7,
    };
    const run = await clientOf({ fetch: scriptedFetch(json(document)) }).run({});

    expect([run.id, run.status]).toEqual(['r1', 'completed']);
    expect(await run.text()).toBe('Hello');
    const result = await run.result<number>();
    expect(result.result).toBe(7);
    expect(result.steps).toEqual([]);
  });

  it('throws for JSON that is no run, and needs a base outside of a page', async () => {
    await expect(clientOf({ fetch: scriptedFetch(json({})) }).run({})).rejects.toMatchObject({ code: 'not_a_stream' });
    await expect(createClient().run({})).rejects.toThrow(/Outside of a page, baseUrl is absolute/);
    expect(() => createClient({ baseUrl: '/api' }).attach('r')).toThrow(TypeError);
  });
});

describe('reading', () => {
  it('yields each event once over lost connections, with its place', async () => {
    const server = runServer({ events: ANSWER, cuts: [1, 0, 2] });
    const run = await clientOf(server).run({});

    const seen: unknown[] = [];
    for await (const event of run) seen.push(event);

    expect(seen).toEqual(server.entries);
    expect([run.cursor, run.status]).toEqual([4, 'completed']);
    expect(server.readers).toBe(0);
  });

  it('begins after a cursor, and asks for nothing before it is read', async () => {
    const server = runServer({ events: ANSWER });
    const run = clientOf(server).attach('run_test', { after: 2 });
    expect(server.fetch.asked).toEqual([]);

    expect(await typesOf(run)).toEqual(['text.delta', 'run.completed']);
    expect(run.status).toBe('completed');
  });

  it('tells of a log that begins anew, and counts from its beginning', async () => {
    const server = runServer({ events: ANSWER });
    const run = clientOf(server).attach('run_test', { after: 9 });

    expect(await typesOf(run)).toEqual(['reset', 'run.started', 'text.delta', 'text.delta', 'run.completed']);
    expect(await run.text()).toBe('Hello');
    expect(server.fetch.asked).toHaveLength(1);
  });

  it('is left by a break, and goes on from there when it is iterated again', async () => {
    const server = runServer({ events: ANSWER });
    const run = clientOf(server).attach('run_test');

    expect(await typesOf(run, 2)).toEqual(['run.started', 'text.delta']);
    expect(server.fetch.asked[0]?.left).toBe(true);
    expect(run.connection.state).toBe('closed');
    expect(await typesOf(run)).toEqual(['text.delta', 'run.completed']);
    expect(await run.text()).toBe('Hello');
    expect(server.fetch.asked).toHaveLength(2);
  });

  it('is read by one at a time', async () => {
    const server = runServer({ events: [text('a')] });
    const run = clientOf(server).attach('run_test');

    for await (const event of run) {
      if (event.type !== 'text.delta') continue;
      await expect(run[Symbol.asyncIterator]().next()).rejects.toThrow(/attach to it again/);
      break;
    }
  });

  it('ends at once when it is closed, and stays so', async () => {
    const server = runServer();
    const run = clientOf(server).attach('run_test');

    for await (const _ of run) queueMicrotask(run.close);

    expect(server.fetch.asked[0]?.left).toBe(true);
    await expect(typesOf(run)).rejects.toThrow(TypeError);
  });

  it('is not read when it is closed before it is connected', async () => {
    const server = runServer();
    const run = clientOf(server).attach(server.runId);
    const reading = typesOf(run);

    run.close();

    expect(await reading).toEqual([]);
    expect(server.fetch.asked).toHaveLength(0);
  });

  it('is closed by a signal that comes together with the answer', async () => {
    // Somewhere in there the answer has been seen, and the run is not there yet.
    for (let steps = 0; steps < 40; steps++) {
      const server = runServer();
      const aborting = new AbortController();
      const started = clientOf({
        fetch: async (url, init) => {
          const answer = await server.fetch(url, init);
          (async () => {
            for (let step = 0; step < steps; step++) await undefined;
            aborting.abort();
          })();
          return answer;
        },
      }).run({}, { signal: aborting.signal });

      const run = await started.catch(() => undefined);
      await (run && typesOf(run).catch(() => undefined));
      expect(server.fetch.asked).toHaveLength(1);
    }
  });

  it('is read whatever those do who are told of its connection', async () => {
    const server = runServer({ events: ANSWER });
    const run = clientOf(server).attach(server.runId);
    const thrown: unknown[] = [];
    const queue = globalThis.queueMicrotask;
    vi.stubGlobal('queueMicrotask', (work: () => void) =>
      queue(() => {
        try {
          work();
        } catch (error) {
          thrown.push(error);
        }
      }),
    );
    const states: string[] = [];
    run.onConnection(() => {
      throw new Error('mine');
    });
    run.onConnection(({ state }) => states.push(state));

    expect(await run.text()).toBe('Hello');
    expect(states).toContain('open');
    expect(thrown.length).toBeGreaterThan(0);
  });

  it('has failed when its end was told without a number, as it is in no log', async () => {
    const failed = { event: 'run.failed', data: { type: 'run.failed', code: 'store', message: 'Not kept.', at_ms: 3 } };
    const frames = [
      { id: 1, event: 'run.started', data: { type: 'run.started', run_id: 'r', at_ms: 1 } },
      { id: 2, event: 'text.delta', data: { ...text('Hel'), at_ms: 2 } },
      failed,
    ];
    const run = clientOf({ fetch: scriptedFetch(eventStream(frames)) }).attach('r');

    await expect(run.result()).rejects.toMatchObject({ code: 'run_failed', status: 'failed', failure: 'store' });
    expect([run.cursor, run.status]).toEqual([2, 'failed']);
  });

  it('ends with the signal that it was started with', async () => {
    const server = runServer();
    const leaving = new AbortController();
    const run = await clientOf(server).run({}, { signal: leaving.signal });

    for await (const _ of run) leaving.abort();

    expect(server.fetch.asked).toHaveLength(1);
    expect(server.fetch.asked[0]?.left).toBe(true);
  });

  it('tells how the connection is', async () => {
    const server = runServer({ events: ANSWER, cuts: [1] });
    const run = clientOf(server).attach('run_test');
    const states: string[] = [];
    const leave = run.onConnection(({ state }) => states.push(state));

    await typesOf(run);
    leave();

    expect(states.filter((state, at) => state !== states[at - 1])).toEqual([
      'connecting',
      'open',
      'waiting',
      'connecting',
      'open',
      'closed',
    ]);
  });
});

describe('waiting for the end', () => {
  it('reads what was not read yet, and no more', async () => {
    const server = runServer({ events: ANSWER });
    const run = await clientOf(server).run({});

    expect(await run.text()).toBe('Hello');
    expect((await run.result<{ answer: number }>()).result?.answer).toBe(42);
    expect(server.fetch.asked).toHaveLength(1);
  });

  it('reads the run anew while somebody reads it, or where its beginning was left out', async () => {
    const server = runServer({ events: [text('Hel')] });
    const run = clientOf(server).attach('run_test');
    const texts: Promise<string>[] = [];

    for await (const event of run) {
      if (event.type !== 'text.delta' || event.seq > 2) continue;
      texts.push(run.text());
      server.emit(text('lo'), completed);
    }
    texts.push(clientOf(server).attach('run_test', { after: 3 }).text());

    expect(await Promise.all(texts)).toEqual(['Hello', 'Hello']);
  });

  it.each<[Event, string, string]>([
    [{ type: 'run.failed', code: 'timeout', message: 'Too slow.' }, 'timeout', 'Too slow.'],
    [{ type: 'run.cancelled', reason: 'user' }, 'user', 'cancelled'],
    [{ type: 'run.paused', interrupts: [] }, 'paused', 'paused'],
  ])('throws for a run that was not completed: %j', async (terminal, failure, message) => {
    const run = clientOf(runServer({ events: [text('Hel'), terminal] })).attach('run_test');

    const error = await run.text().catch((error) => error);

    expect(error).toBeInstanceOf(RunFailedError);
    expect(error).toMatchObject({ runId: 'run_test', status: terminal.type.slice(4), failure });
    expect(error.message).toContain(message);
    expect((await run.reduced()).messages[0]?.parts[0]).toMatchObject({ text: 'Hel' });
  });

  it('throws where the reading is closed before the end', async () => {
    const run = clientOf(runServer()).attach('run_test');
    const text = run.text();
    await vi.waitFor(() => expect(run.cursor).toBe(1));

    run.close();

    await expect(text).rejects.toThrow(StreamBrokenError);
  });
});

describe('asking', () => {
  it('cancels a run once', async () => {
    const server = runServer();
    const client = clientOf(server);

    expect(await client.cancel('run_test')).toBe(true);
    expect(await client.attach('run_test').cancel()).toBe(false);
    expect(server.fetch.asked.map(({ method }) => method)).toEqual(['POST', 'POST']);
  });

  it('has the document of a run, and of a conversation', async () => {
    const server = runServer({ events: ANSWER });
    const load = scriptedFetch(503, json({ id: 'c1' }));

    expect(await clientOf(server).info('run_test')).toMatchObject({ status: 'completed', text: 'Hello', seq: 4 });
    expect(await clientOf({ fetch: load }).conversation('c/1').load()).toEqual({ id: 'c1' });
    expect(load.asked.map(({ path }) => path)).toEqual(['/conversations/c%2F1', '/conversations/c%2F1']);
    await expect(clientOf(server).info('other')).rejects.toMatchObject({ status: 404, errorCode: 'run_not_found' });
  });
});

describe('watching a conversation', () => {
  const started = (run_id: string, thread_id: string) => ({
    id: `${run_id}:1`,
    event: 'run.started',
    data: { type: 'run.started', run_id, thread_id, at_ms: 1 },
  });

  it('yields each run of it once, over lost connections', async () => {
    const fetch = scriptedFetch(
      eventStream([started('a', 't'), { id: 'a:2', event: 'text.delta', data: {} }, started('x', 'other')]),
      eventStream([started('a', 't'), started('b', 't')], { ends: 'hang' }),
    );
    const ids: string[] = [];

    for await (const run of clientOf({ fetch }).conversation('t').watch()) if (ids.push(run.id) === 2) break;

    expect(ids).toEqual(['a', 'b']);
    expect(fetch.asked[0]?.path).toBe('/runs/feed?thread=t&merge=0');
    expect(fetch.asked.at(-1)?.left).toBe(true);
  });

  it('ends with its signal, and throws where the server knows no identities', async () => {
    const leaving = new AbortController();
    const fetch = scriptedFetch(eventStream([started('a', 't')], { ends: 'hang' }), refusal(404, 'run_not_found'));
    const { watch } = clientOf({ fetch }).conversation('t');

    for await (const _ of watch({ signal: leaving.signal })) leaving.abort();

    await expect(watch().next()).rejects.toMatchObject({ status: 404 });
  });
});
