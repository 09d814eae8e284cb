import type { UIMessage } from 'ai';
import { expect, test } from 'vitest';
import { TailraceChatTransport, type TailraceChatTransportOptions } from '../src/ai-sdk.js';

type Answer = (request: Request) => Response | Promise<Response>;
type Chat = TailraceChatTransport;

const LOCATION = '/runs/run1/events?dialect=ai-sdk';
const frame = (id: number, data: unknown) => `id: ${id}\ndata: ${JSON.stringify(data)}\n\n`;
const START = frame(1, { type: 'start' });
const FINISH = `${frame(9, { type: 'finish' })}id: 9\ndata: [DONE]\n\n`;

/** An answer of these pieces that then ends; one that ends with `null` stays open. */
function answer(...pieces: (string | null)[]): Answer {
  return ({ signal }) => {
    const encoder = new TextEncoder();
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        signal.addEventListener('abort', () => controller.error(signal.reason));
        for (const piece of pieces) if (piece !== null) controller.enqueue(encoder.encode(piece));
        if (pieces.at(-1) !== null) controller.close();
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream', location: LOCATION } });
  };
}

const status = (code: number, body?: unknown): Answer => {
  return () => (body ? Response.json(body, { status: code }) : new Response(null, { status: code }));
};
const stopped = status(202, { accepted: true });

/** A transport to a server that answers so, one request after the other; and what it was asked. */
function connect(answers: Answer[], options: TailraceChatTransportOptions<UIMessage> = {}) {
  const asked: Request[] = [];
  const transport: Chat = new TailraceChatTransport({
    api: 'http://host.test/api/chat',
    maxBackoffMs: 1,
    ...options,
    fetch: async (url, init) => {
      const request = new Request(url, init);
      asked.push(request);
      const next = answers.shift();
      if (!next) throw new TypeError('fetch failed');
      return next(request);
    },
  });
  return { transport, asked };
}

const send = (
  transport: Chat,
  { signal, ...more }: { signal?: AbortSignal; headers?: HeadersInit; body?: object } = {},
) =>
  transport.sendMessages({
    chatId: 'chat 1',
    messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'Hello' }] }],
    trigger: 'submit-message',
    messageId: undefined,
    abortSignal: signal,
    ...(more as { headers?: Headers; body?: object }),
  });

async function all(chunks: AsyncIterable<{ type: string }> | null) {
  const types: string[] = [];
  for await (const { type } of chunks ?? []) types.push(type);
  return types;
}

const asText = (requests: Request[]) =>
  requests.map(({ method, url }) => `${method} ${url.replace('http://host.test', '')}`);

async function until(condition: () => boolean) {
  await expect.poll(condition, { interval: 1 }).toBe(true);
}

test('a message is sent as the AI SDK would send it, and yields the chunks of the answer', async () => {
  const { transport, asked } = connect([answer(START, FINISH, ': end\n')], {
    api: 'http://host.test/api/chat/?sdk_version=7',
    headers: { 'x-page': 'all' },
  });

  const headers = { 'x-page': 'this', 'x-once': '1' };
  expect(await all(await send(transport, { headers, body: { model: 'm' } }))).toEqual(['start', 'finish']);

  const [request] = asked as [Request];
  expect(asText(asked)).toEqual(['POST /api/chat/?sdk_version=7']);
  expect(await request.json()).toEqual({
    id: 'chat 1',
    messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'Hello' }] }],
    trigger: 'submit-message',
    model: 'm',
  });
  expect(request.headers.get('content-type')).toBe('application/json');
  expect(request.headers.get('idempotency-key')).toMatch(/^\d+(-\d+){3}$/);
  expect([request.headers.get('x-page'), request.headers.get('x-once')]).toEqual(['this', '1']);
});

test('a page may send what it likes', async () => {
  const body = ({ id, messages }: { id: string; messages: unknown[] }) => ({ id, message: messages.at(-1) });
  const { transport, asked } = connect([answer(FINISH)], { body });

  await all(await send(transport));

  expect(Object.keys(await (asked[0] as Request).json())).toEqual(['id', 'message']);
});

test('an answer that breaks off goes on where it was, and what is told again is left out', async () => {
  const { transport, asked } = connect([
    answer(START, 'id: 2\ndata: {"ty'),
    answer(START, frame(2, { type: 'text-start' })),
    answer(),
    answer(FINISH),
  ]);

  expect(await all(await send(transport))).toEqual(['start', 'text-start', 'finish']);

  expect(asText(asked).slice(1)).toEqual(Array(3).fill(`GET ${LOCATION}`));
  expect(asked.map(({ headers }) => headers.get('last-event-id'))).toEqual([null, '1', '2', '2']);
  const unfit = ['content-type', 'idempotency-key'];
  expect(asked.slice(1).flatMap(({ headers }) => unfit.map((name) => headers.get(name)))).toEqual(Array(6).fill(null));
});

test('half an answer is an error, after what there was of it', async () => {
  const { transport } = connect([answer(START)], { maxAttempts: 3 });

  const reader = (await send(transport)).getReader();

  expect(await reader.read()).toEqual({ done: false, value: { type: 'start' } });
  await expect(reader.read()).rejects.toMatchObject({ code: 'stream_broken' });
});

test('what is no chunk is an error, and nothing more is read', async () => {
  let aborted = false;
  const { transport, asked } = connect([
    (request) => {
      request.signal.addEventListener('abort', () => {
        aborted = true;
      });
      return answer('id: 1\ndata: {\n\n', null)(request);
    },
  ]);

  await expect(all(await send(transport))).rejects.toThrow(SyntaxError);

  expect(aborted).toBe(true);
  expect(asked).toHaveLength(1);
});

test('a refusal rejects with what the server says of it', async () => {
  const refusal = { error: { code: 'limit', message: 'Not so fast.' } };
  const { transport } = connect([status(403, refusal)]);

  await expect(send(transport)).rejects.toMatchObject({ message: 'Not so fast.', status: 403, errorCode: 'limit' });
});

test('a start of which nothing was heard is repeated under the same key', async () => {
  const { transport, asked } = connect([
    () => {
      throw new TypeError('fetch failed');
    },
    status(503),
    answer(FINISH),
  ]);

  expect(await all(await send(transport))).toEqual(['finish']);
  expect(asText(asked)).toEqual(Array(3).fill('POST /api/chat'));
  expect(new Set(asked.map(({ headers }) => headers.get('idempotency-key'))).size).toBe(1);
});

test('an answer under way is read from its beginning, or there is none', async () => {
  const { transport, asked } = connect([answer(START, FINISH), status(204)], {
    api: 'http://host.test/api/chat?sdk_version=7',
  });

  expect(await all(await transport.reconnectToStream({ chatId: 'a/b$&' }))).toEqual(['start', 'finish']);
  expect(await transport.reconnectToStream({ chatId: 'other' })).toBe(null);

  const paths = ['/api/chat/a%2Fb%24%26/stream?sdk_version=7', '/api/chat/other/stream?sdk_version=7'];
  expect(asText(asked)).toEqual(paths.map((path) => `GET ${path}`));
  expect(asked[0]?.headers.has('idempotency-key')).toBe(false);
});

test('a stop ends the reading at once and cancels the run', async () => {
  const { transport, asked } = connect([answer(START, null), stopped], { headers: { authorization: 'Bearer t' } });
  const stopping = new AbortController();
  const reader = (await send(transport, { signal: stopping.signal })).getReader();
  await reader.read();

  const reading = reader.read();
  stopping.abort();

  await expect(reading).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  await until(() => asked.length === 2);
  expect(asText(asked)[1]).toBe('POST /api/chat/chat%201/stop');
  expect(await asked[1]?.json()).toEqual({ runId: 'run1' });
  expect(asked[1]?.headers.get('authorization')).toBe('Bearer t');
  expect(asked[0]?.signal.aborted).toBe(true);
});

test('a stop before the answer waits for it, to know what to stop', async () => {
  let respond = () => {};
  const { transport, asked } = connect([
    (request) =>
      new Promise((resolve) => {
        respond = () => resolve(answer(START, null)(request) as Response);
      }),
    stopped,
  ]);
  const stopping = new AbortController();
  const sending = send(transport, { signal: stopping.signal });
  await until(() => asked.length === 1);

  stopping.abort();

  await expect(sending).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  expect(asText(asked)).toEqual(['POST /api/chat']);
  respond();
  await until(() => asked.length === 2);
  expect(await asked[1]?.json()).toEqual({ runId: 'run1' });
});

test('a stop before a start that fails is all there is to it', async () => {
  let fail = () => {};
  const { transport, asked } = connect([
    () =>
      new Promise((_, reject) => {
        fail = () => reject(new TypeError('fetch failed'));
      }),
    stopped,
  ]);
  const stopping = new AbortController();
  const sending = send(transport, { signal: stopping.signal });
  await until(() => asked.length === 1);

  stopping.abort();
  await expect(sending).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  fail();
  await new Promise((resolve) => setTimeout(resolve, 20));

  expect(asText(asked)).toEqual(['POST /api/chat']);
});

test('a stop between two attempts cancels the run and resumes nothing', async () => {
  const waiting: string[] = [];
  const { transport, asked } = connect([answer(START), stopped], {
    maxBackoffMs: 100_000,
    backoffMs: 100_000,
    onConnection: ({ state }) => waiting.push(state),
  });
  const stopping = new AbortController();
  const reading = all(await send(transport, { signal: stopping.signal }));
  await until(() => waiting.includes('waiting'));

  stopping.abort();

  await expect(reading).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  await until(() => asked.length === 2);
  expect(asText(asked)[1]).toBe('POST /api/chat/chat%201/stop');
  expect(waiting.at(-1)).toBe('closed');
});

test('a stop that the server has no time for is repeated', async () => {
  const { transport, asked } = connect([answer(START, null), status(503), stopped]);
  const stopping = new AbortController();
  await send(transport, { signal: stopping.signal });

  stopping.abort();

  await until(() => asked.length === 3);
  expect(asText(asked).slice(1)).toEqual(Array(2).fill('POST /api/chat/chat%201/stop'));
});

test('a stop is for one reader only where that is wanted', async () => {
  const { transport, asked } = connect([answer(START, null), stopped], { onAbort: 'detach' });
  const stopping = new AbortController();
  const reading = all(await send(transport, { signal: stopping.signal }));

  stopping.abort();

  await expect(reading).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  expect(asText(asked)).toEqual(['POST /api/chat']);
  expect(asked[0]?.signal.aborted).toBe(true);
});

test('who reads no more closes the connection and stops nothing', async () => {
  const { transport, asked } = connect([answer(START, null), stopped]);

  const chunks = await send(transport, { signal: new AbortController().signal });
  await chunks.cancel();

  expect(asked[0]?.signal.aborted).toBe(true);
  expect(asText(asked)).toEqual(['POST /api/chat']);
});

test('who reads a chat anew goes on with the run of who read it before', async () => {
  const { transport, asked } = connect([answer(START, null), answer(START, FINISH), stopped]);
  const stopping = new AbortController();
  const first = all(await transport.reconnectToStream({ chatId: 'chat 1', abortSignal: stopping.signal }));

  // As the AI SDK does it: first the abort, and at once the next reading.
  stopping.abort();
  const second = transport.reconnectToStream({ chatId: 'chat 1' });

  await expect(first).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  expect(await all(await second)).toEqual(['start', 'finish']);
  expect(asText(asked)).toEqual(Array(2).fill('GET /api/chat/chat%201/stream'));
});

test('what is stopped already is not asked', async () => {
  const { transport, asked } = connect([]);

  const sending = send(transport, { signal: AbortSignal.abort() });

  await expect(sending).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  expect(asked).toEqual([]);
});
