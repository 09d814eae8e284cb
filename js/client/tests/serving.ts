import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: string;
  /** When the client had closed the connection. */
  closed: Promise<void>;
}

export type Answer = (response: ServerResponse, asked: Asked) => void | Promise<void>;

/** Serves one answer for each request, in order, the last one for all that follow; records what was asked. */
export async function serve(...answers: Answer[]) {
  const asked: Asked[] = [];
  const arrivals: (() => void)[] = [];
  const server: Server = createServer(async (request, response) => {
    let body = '';
    const closed = new Promise<void>((resolve) => response.on('close', resolve));
    for await (const chunk of request) body += chunk;
    const { method = '', url: path = '', headers } = request;
    const one = { method, path, headers, body, closed };
    asked.push(one);
    for (const arrived of arrivals.splice(0)) arrived();
    await (path.endsWith('/cancel') ? json(202, {}) : answers[Math.min(asked.length, answers.length) - 1])?.(
      response,
      one,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  /** Waits for so many requests. */
  const arrived = async (count: number) => {
    while (asked.length < count) await new Promise<void>((resolve) => arrivals.push(resolve));
  };
  return { url, asked, arrived };
}

const STREAM = { 'content-type': 'text/event-stream' };

/** Sends the text and ends, politely. */
export const stream =
  (text: string, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(200, { ...STREAM, ...headers });
    response.end(text);
  };

/** Sends the text and resets the connection. */
export const reset =
  (text: string, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(200, { ...STREAM, ...headers });
    response.write(text, () => setImmediate(() => response.socket?.resetAndDestroy()));
  };

/** Sends the text and keeps the connection open. */
export const hold =
  (text: string, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(200, { ...STREAM, ...headers });
    response.flushHeaders();
    if (text) response.write(text);
  };

export const status =
  (code: number, headers: Record<string, string> = {}, body = ''): Answer =>
  (response) => {
    response.writeHead(code, headers);
    response.end(body);
  };

export const json = (code: number, document: unknown, headers: Record<string, string> = {}): Answer =>
  status(code, { 'content-type': 'application/json', ...headers }, JSON.stringify(document));

/** Never answers. */
export const silence: Answer = () => {};
