import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ResumableOptions, resumable } from '../src/fetch.js';
import { type Answer, hold, json, reset, serve, silence, status, stream } from './serving.js';

const frame = (id: string, text = id) => `id: ${id}\ndata: {"token":"${text}"}\n\n`;
const END = ': end\n';
const at = { location: '/runs/r/events?dialect=tokens' };
const quick: ResumableOptions = { backoffMs: 1, maxBackoffMs: 5 };

let unhandled: unknown[] = [];
const note = (error: unknown) => unhandled.push(error);
beforeEach(() => {
  unhandled = [];
  process.on('unhandledRejection', note);
});
afterEach(async () => {
  await new Promise((resolve) => setTimeout(resolve));
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

const post: RequestInit = {
  method: 'POST',
  body: '{}',
  headers: { 'content-type': 'application/json', authorization: 'Bearer t', 'x-app': '1' },
};

async function chat(answers: Answer[], options: ResumableOptions = {}, init: RequestInit = post) {
  const server = await serve(...answers);
  const answer = await resumable(fetch, { ...quick, ...options })(`${server.url}/chat`, init);
  return { server, answer };
}

describe('an answer that is none of ours is left as it is', () => {
  test.each<[string, Answer]>([
    ['refused', json(409, { error: 'no' }, at)],
    ['no Location', stream(frame('1'))],
    ['a Location that is none', stream(frame('1'), { location: 'http://[' })],
    ['no stream', json(200, { a: 1 }, at)],
  ])('%s', async (_, answer) => {
    const server = await serve(answer);
    let given: Response | undefined;
    const base: typeof fetch = async (...asked) => {
      given = await fetch(...asked);
      return given;
    };

    expect(await resumable(base)(`${server.url}/chat`, post)).toBe(given);
  });
});

describe('a stream that breaks', () => {
  test.each<[string, Answer]>([
    ['by a reset', reset(frame('1') + frame('2'), at)],
    ['politely, between frames', stream(frame('1') + frame('2'), at)],
    ['politely, within a frame', stream(`${frame('1')}${frame('2')}id: 3\ndata: {"to`, at)],
    ['within a line end', stream(`${frame('1')}${frame('2')}id: 3\ndata: x\n`, at)],
  ])('comes back, byte for byte: %s', async (_, first) => {
    const { server, answer } = await chat([first, reset(frame('3')), stream(frame('3.1', 'é€') + frame('4') + END)]);

    expect(await answer.text()).toBe(`${frame('1')}${frame('2')}${frame('3')}${frame('3.1', 'é€')}${frame('4')}${END}`);
    expect(server.asked.map(({ method, path, headers }) => [method, path, headers['last-event-id']])).toEqual([
      ['POST', '/chat', undefined],
      ['GET', '/runs/r/events?dialect=tokens', '2'],
      ['GET', '/runs/r/events?dialect=tokens', '3'],
    ]);
  });

  test('comes back with the headers of the request, less those of its body', async () => {
    const { server, answer } = await chat([stream(frame('1'), at), stream(END)]);

    await answer.text();

    expect(server.asked[1]?.headers).toMatchObject({
      authorization: 'Bearer t',
      'x-app': '1',
      'tailrace-client': 'js/0.1.0',
    });
    expect(server.asked[1]?.headers).not.toHaveProperty('content-type');
  });

  test('comes back with fresh headers', async () => {
    const attempts: unknown[] = [];
    const headers = (attempt: object) => {
      attempts.push(attempt);
      return { authorization: `Bearer ${attempts.length}` };
    };
    const { server, answer } = await chat([stream(frame('1'), at), status(401), stream(END)], { headers });

    await answer.text();

    expect(attempts).toMatchObject([{ number: 2 }, { number: 3, status: 401 }]);
    expect(server.asked[2]?.headers.authorization).toBe('Bearer 2');
  });

  test('comes back after 5xx and 429, as late as it is told', async () => {
    const { answer } = await chat([
      stream(frame('1'), at),
      status(502),
      status(429, { 'retry-after': '1' }),
      stream(END),
    ]);
    const begun = Date.now();

    expect(await answer.text()).toBe(frame('1') + END);
    expect(Date.now() - begun).toBeGreaterThanOrEqual(990);
  });

  test('comes back from silence', async () => {
    const { server, answer } = await chat([hold(frame('1'), at), silence, stream(frame('2') + END)], { idleMs: 60 });

    expect(await answer.text()).toBe(frame('1') + frame('2') + END);
    await server.asked[0]?.closed;
  });

  test('has not ended because a frame says so of itself', async () => {
    const odd = 'id: 1\ncomment: end\ndata: x\n\n';
    const { answer } = await chat([stream(odd, at), stream(frame('2') + END)]);

    expect(await answer.text()).toBe(odd + frame('2') + END);
  });

  test('has ended if there is nothing more', async () => {
    const { answer } = await chat([stream(frame('1'), at), status(204)]);

    expect(await answer.text()).toBe(frame('1'));
  });

  test('has ended after its last frame, without another request', async () => {
    const { server, answer } = await chat([reset(`${frame('1')}id: 2\ndata: [DONE]\n\n`, at)]);

    expect(await answer.text()).toContain('[DONE]');
    expect(server.asked).toHaveLength(1);
  });

  test.each([
    ['gone', status(404), { name: 'RequestRefusedError', status: 404 }],
    ['a page', status(200, { 'content-type': 'text/html' }), { code: 'request_refused' }],
    ['never back', status(500), { name: 'StreamBrokenError', attempts: 4 }],
  ])('errors if there is no end to be had: %s', async (_, second, error) => {
    const { answer } = await chat([stream(frame('1'), at), second], { maxAttempts: 4 });
    const reader = answer.body?.getReader();

    expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(frame('1'));
    await expect(reader?.read()).rejects.toMatchObject(error);
  });

  test('is not begun anew if its frames have no ids', async () => {
    const { server, answer } = await chat([stream('data: a\n\n', at)]);

    await expect(answer.text()).rejects.toMatchObject({ code: 'stream_broken' });
    expect(server.asked).toHaveLength(1);
  });

  test('comes back when the server asks it to, and says nothing of it', async () => {
    const back = 'retry: 1\nevent: reconnect\ndata: {}\n\n';
    const { answer } = await chat(
      [hold(frame('1', 'é') + back, at), hold(back), hold(`: hb\n${back}`), stream(frame('2') + END)],
      {
        maxAttempts: 1,
      },
    );

    expect(await answer.text()).toBe(`${frame('1', 'é')}: hb\n${frame('2')}${END}`);
  });

  test('does not give its credentials to another origin', async () => {
    const other = await serve(stream(frame('2') + END));
    const { answer } = await chat([stream(frame('1'), { location: `${other.url}/runs/r/events` })]);

    expect(await answer.text()).toBe(frame('1') + frame('2') + END);
    expect(other.asked[0]?.headers).toMatchObject({ 'last-event-id': '1' });
    for (const name of ['authorization', 'x-app']) expect(other.asked[0]?.headers).not.toHaveProperty(name);
  });
});

describe('bytes', () => {
  test('come whole frames at a time, comments at once', async () => {
    let send: (text: string) => void = () => {};
    const first: Answer = (response, asked) => {
      hold('', at)(response, asked);
      send = (text) => response.write(text);
    };
    const { answer } = await chat([first]);
    const reader = answer.body?.getReader();
    const next = async () => new TextDecoder().decode((await reader?.read())?.value);

    send(': hb\n');
    expect(await next()).toBe(': hb\n');
    send('id: 1\ndata: a\n');
    send(': within a frame\n');
    const pending = next();
    expect(await Promise.race([pending, new Promise((resolve) => setTimeout(resolve, 50, 'nothing'))])).toBe('nothing');
    send('\n: h');
    const pieces = [await pending];
    while (!pieces.join('').endsWith('\n\n')) pieces.push(await next());
    expect(pieces.join('')).toBe('id: 1\ndata: a\n: within a frame\n\n');
    await reader?.cancel();
  });

  test.each(['\n', '\r\n', '\r'])('are left as they are, however they are cut, with line ends %j', async (end) => {
    const text = `\uFEFF: hi\nid: 1\ndata: é\n\n${frame('2')}\n: hb\ndata: x\ndata: y\n: c\n\n${END}`.replaceAll(
      '\n',
      end,
    );
    const bytes = new TextEncoder().encode(text);
    for (let size = 1; size < 12; size++) {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (let from = 0; from < bytes.length; from += size) controller.enqueue(bytes.subarray(from, from + size));
          controller.close();
        },
      });
      let asked = 0;
      const base = async () =>
        asked++
          ? new Response(null, { status: 204 })
          : new Response(body, { headers: { 'content-type': 'text/event-stream', location: '/runs/r/events' } });

      const answer = await resumable(base, quick)('http://x.test/');

      expect(new Uint8Array(await answer.arrayBuffer())).toEqual(bytes);
    }
  });

  test('are read only as far as they are asked for', async () => {
    let pulled = 0;
    const body = new ReadableStream<Uint8Array>(
      { pull: (controller) => controller.enqueue(new TextEncoder().encode(frame(`${++pulled}`))) },
      { highWaterMark: 0 },
    );
    const base = async () => new Response(body, { headers: { 'content-type': 'text/event-stream', ...at } });

    const answer = await resumable(base, quick)('http://x.test/');
    const reader = answer.body?.getReader();
    await reader?.read();
    await new Promise((resolve) => setTimeout(resolve, 20));

    expect(pulled).toBe(1);
    await reader?.cancel();
  });
});

describe('the answer', () => {
  test('says what the first one said', async () => {
    const { server, answer } = await chat([stream(END, { ...at, 'x-thing': '1' })]);

    expect([answer.status, answer.ok, answer.url]).toEqual([200, true, `${server.url}/chat`]);
    expect(answer.headers.get('x-thing')).toBe('1');
    expect(answer.headers.get('content-type')).toBe('text/event-stream');
    await answer.text();
  });

  test('may be to a Request', async () => {
    const server = await serve(stream(frame('1'), at), stream(END));

    const answer = await resumable(fetch, quick)(new Request(`${server.url}/chat`, post));

    expect(await answer.text()).toBe(frame('1') + END);
    expect(server.asked[1]?.headers.authorization).toBe('Bearer t');
  });

  test('is asked for again as it was', async () => {
    const server = await serve(stream(frame('1'), at), stream(END));
    const inits: (RequestInit | undefined)[] = [];
    const base: typeof fetch = (input, init) => {
      inits.push(init);
      return fetch(input, init);
    };

    await (await resumable(base, quick)(server.url, { ...post, credentials: 'include' })).text();

    expect(inits[1]).toMatchObject({ method: 'GET', credentials: 'include', body: undefined });
  });

  test('may be to a URL', async () => {
    const server = await serve(stream(frame('1'), at), stream(END));

    expect(await (await resumable(fetch, quick)(new URL(server.url))).text()).toBe(frame('1') + END);
  });
});

test('a reader that leaves at the last frame cancels nothing', async () => {
  const { server, answer } = await chat([hold(`${frame('1')}id: 2\ndata: [DONE]\n\n`, at)]);
  const reader = answer.body?.getReader();
  await reader?.read();

  await reader?.cancel();

  await server.asked[0]?.closed;
  expect(server.asked).toHaveLength(1);
});

test('a frame that never ends is given up', async () => {
  const { answer } = await chat([stream(`data: ${'x'.repeat(9 << 20)}`, at)]);

  await expect(answer.text()).rejects.toMatchObject({ code: 'stream_broken' });
});

describe('an abort', () => {
  const abortable = () => {
    const aborting = new AbortController();
    return { aborting, init: { ...post, signal: aborting.signal } };
  };

  test('cancels the run, with the headers of the request', async () => {
    const { aborting, init } = abortable();
    const { server, answer } = await chat([hold(frame('1'), at)], {}, init);
    const reader = answer.body?.getReader();
    await reader?.read();
    const next = reader?.read();

    aborting.abort();

    await expect(next).rejects.toMatchObject({ name: 'AbortError' });
    await server.arrived(2);
    await server.asked[0]?.closed;
    expect(server.asked[1]).toMatchObject({ method: 'POST', path: '/runs/r/cancel', body: '' });
    expect(server.asked[1]?.headers).toMatchObject({ authorization: 'Bearer t' });
  });

  test('may leave the run alone', async () => {
    const { aborting, init } = abortable();
    const { server, answer } = await chat([hold(frame('1'), at)], { onAbort: 'detach' }, init);
    const reading = answer.text();

    aborting.abort();

    await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
    await server.asked[0]?.closed;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(server.asked).toHaveLength(1);
  });

  test('is told with its reason', async () => {
    const { aborting, init } = abortable();
    const { answer } = await chat([hold(frame('1'), at)], {}, init);

    aborting.abort('enough');

    await expect(answer.text()).rejects.toBe('enough');
  });

  test('ends a wait, and the request that follows it', async () => {
    const { aborting, init } = abortable();
    const { server, answer } = await chat([stream(frame('1'), at), status(503, { 'retry-after': '60' })], {}, init);
    const reading = answer.text();
    await server.arrived(2);
    await new Promise((resolve) => setTimeout(resolve, 20));

    aborting.abort();

    await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
    await server.arrived(3);
    expect(server.asked.map(({ path }) => path)).toEqual([
      '/chat',
      expect.stringContaining('/events'),
      '/runs/r/cancel',
    ]);
  });

  test('ends a connection that is being made', async () => {
    const { aborting, init } = abortable();
    const { server, answer } = await chat([stream(frame('1'), at), silence], {}, init);
    const reading = answer.text();
    await server.arrived(2);

    aborting.abort();

    await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
    await server.asked[1]?.closed;
  });

  test('before the start is the business of the client', async () => {
    const server = await serve(stream(END, at));

    const asking = resumable()(server.url, { signal: AbortSignal.abort() });

    await expect(asking).rejects.toMatchObject({ name: 'AbortError' });
    expect(server.asked).toHaveLength(0);
  });

  test('after the end changes nothing', async () => {
    const { aborting, init } = abortable();
    const { server, answer } = await chat([stream(frame('1') + END, at)], {}, init);

    expect(await answer.text()).toBe(frame('1') + END);
    aborting.abort();

    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(server.asked).toHaveLength(1);
  });

  test('is what a reader does that leaves', async () => {
    const { server, answer } = await chat([hold(frame('1'), at)]);

    await answer.body?.cancel();

    await server.arrived(2);
    await server.asked[0]?.closed;
    expect(server.asked[1]?.path).toBe('/runs/r/cancel');
  });
});
