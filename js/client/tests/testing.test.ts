import { describe, expect, it } from 'vitest';
import { eventStream, refusal, runServer, scriptedFetch } from '../src/testing/index.js';

const events = [
  { type: 'text.delta', delta: 'Hel' },
  { type: 'text.delta', delta: 'lo' },
  { type: 'run.completed' },
] as const;

const ids = (text: string) => [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));

/** What came of a body before it ended or broke. */
async function partOf({ body }: Response): Promise<{ text: string; broke: boolean }> {
  const decoder = new TextDecoder();
  const reader = body?.getReader();
  let text = '';
  try {
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) return { text, broke: false };
      text += decoder.decode(value, { stream: true });
    }
  } catch {
    return { text, broke: true };
  }
}

describe('runServer', () => {
  it('starts the run by POST and says where its log is', async () => {
    const server = runServer({ events });

    const response = await server.fetch('/chat', { method: 'POST', body: '{"message":"hi"}' });

    expect(response.headers.get('location')).toBe('/runs/run_test/events');
    const { text } = await partOf(response);
    expect(ids(text)).toEqual([1, 2, 3, 4]);
    expect(text.endsWith(': end\n')).toBe(true);
    expect(server.fetch.asked[0]).toMatchObject({ method: 'POST', path: '/chat', body: '{"message":"hi"}' });
  });

  it('cuts one connection after the other, and goes on after the cursor', async () => {
    const server = runServer({ events, cuts: [1, 2] });

    const first = await partOf(await server.fetch('/chat', { method: 'POST' }));
    const second = await partOf(await server.fetch('/runs/run_test/events', { headers: { 'last-event-id': '1' } }));
    const third = await partOf(await server.fetch('/runs/run_test/events?after=3'));

    expect([first, second, third].map(({ text }) => ids(text))).toEqual([[1], [2, 3], [4]]);
    expect([first, second, third].map(({ broke }) => broke)).toEqual([true, true, false]);
  });

  it('can cut politely', async () => {
    const server = runServer({ events, cuts: [2], cutBy: 'end' });

    const { text, broke } = await partOf(await server.fetch('/chat', { method: 'POST' }));

    expect(ids(text)).toEqual([1, 2]);
    expect(broke).toBe(false);
  });

  it('answers 204 to who has all of a run that has ended', async () => {
    const server = runServer({ events });

    const response = await server.fetch('/runs/run_test/events', { headers: { 'last-event-id': '4' } });

    expect(response.status).toBe(204);
  });

  it('begins anew for a cursor beyond the log', async () => {
    const server = runServer({ events });

    const { text } = await partOf(await server.fetch('/runs/run_test/events?after=99'));

    expect(text.startsWith('event: reset\ndata: {}\n\nid: 1\n')).toBe(true);
  });

  it('wakes its readers when the run goes on', async () => {
    const server = runServer();
    const reading = partOf(await server.fetch('/runs/run_test/events'));

    server.emit(...events);

    expect(ids((await reading).text)).toEqual([1, 2, 3, 4]);
    expect(server.readers).toBe(0);
  });

  it('takes nothing after a terminal event', () => {
    const server = runServer({ events });

    expect(() => server.emit({ type: 'text.delta', delta: 'late' })).toThrow(TypeError);
  });

  it('drops everybody who reads', async () => {
    const server = runServer();
    const response = await server.fetch('/runs/run_test/events');

    server.drop();

    expect((await partOf(response)).broke).toBe(true);
  });

  it('sends everybody away who reads', async () => {
    const server = runServer();
    const response = await server.fetch('/runs/run_test/events?after=1');

    server.sendAway('expired');

    const { text, broke } = await partOf(response);
    expect(text).toBe('retry: 1000\nevent: reconnect\ndata: {"reason":"expired"}\n\n');
    expect(broke).toBe(false);
  });

  it('refuses first, if it is told to', async () => {
    const server = runServer({ events, refuse: [503, new TypeError('no network')] });

    expect((await server.fetch('/chat', { method: 'POST' })).status).toBe(503);
    await expect(server.fetch('/chat', { method: 'POST' })).rejects.toThrow('no network');
    expect((await server.fetch('/chat', { method: 'POST' })).status).toBe(200);
  });

  it('cancels once', async () => {
    const server = runServer();
    const cancel = async () => (await server.fetch('/runs/run_test/cancel', { method: 'POST' })).json();

    expect(await cancel()).toEqual({ run_id: 'run_test', accepted: true });
    expect(await cancel()).toEqual({ run_id: 'run_test', accepted: false });
    expect(server.entries.at(-1)).toMatchObject({ type: 'run.cancelled', seq: 2 });
  });

  it('has the run as a document', async () => {
    const server = runServer({ events });

    const document = await (await server.fetch('/runs/run_test')).json();

    expect(document).toMatchObject({ status: 'completed', text: 'Hello', run_id: 'run_test' });
  });

  it('knows no other run', async () => {
    const response = await runServer().fetch('/runs/another/events');

    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: 'run_not_found' } });
  });
});

describe('scriptedFetch', () => {
  it('gives its answers in order and then no more', async () => {
    const fetch = scriptedFetch(503, refusal(429, 'busy', { 'retry-after': '1' }), ({ path }) => new Response(path));

    const answers = [await fetch('/a'), await fetch('/b'), await fetch('/c?d=1'), await fetch('/e')];

    expect(answers.map(({ status }) => status)).toEqual([503, 429, 200, 410]);
    expect(await answers[2]?.text()).toBe('/c?d=1');
    expect(fetch.asked.map(({ path }) => path)).toEqual(['/a', '/b', '/c?d=1', '/e']);
  });

  it('ends an answer when whoever asked leaves', async () => {
    const fetch = scriptedFetch(eventStream([{ id: 1, data: 'a' }], { ends: 'hang' }));
    const leaving = new AbortController();
    const response = await fetch('/a', { signal: leaving.signal });
    const reading = partOf(response);

    leaving.abort();

    expect((await reading).broke).toBe(true);
    expect(fetch.asked[0]?.left).toBe(true);
  });

  it('ends a wait for an answer when whoever asked leaves', async () => {
    const leaving = new AbortController();
    const asking = scriptedFetch(() => new Promise<Response>(() => {}))('/a', { signal: leaving.signal });

    leaving.abort();

    await expect(asking).rejects.toThrow(/abort/i);
  });

  it('says which URL has answered', async () => {
    const response = await scriptedFetch(204)('/a');

    expect(response.url).toBe('http://test/a');
  });
});

describe('eventStream', () => {
  it('writes frames, and text as it is', async () => {
    const response = eventStream([{ retry: 1000, id: 'x', event: 'e', data: 'a\nb' }, ': hb\n', { data: { c: 1 } }]);

    expect(response.headers.get('content-type')).toBe('text/event-stream');
    expect(await response.text()).toBe('retry: 1000\nid: x\nevent: e\ndata: a\ndata: b\n\n: hb\ndata: {"c":1}\n\n');
  });

  it('breaks, if it is told to', async () => {
    const { text, broke } = await partOf(eventStream([{ data: 'a' }], { ends: 'break', status: 200 }));

    expect(text).toBe('data: a\n\n');
    expect(broke).toBe(true);
  });
});
