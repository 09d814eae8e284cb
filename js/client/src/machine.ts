// The one reconnect loop: what to ask, what an answer means, how long to wait. What the bytes mean, its users know.
import {
  type BackoffOptions,
  createWait,
  type HeadersSource,
  headerOf,
  headersFor,
  IDLE_MS,
  isPassing,
  isStream,
  locationOf,
  nothing,
  retryAfterOf,
  waitMs,
} from './backoff.js';
import type { Dialect } from './endings.js';
import { NotAStreamError, RequestRefusedError, StreamBrokenError, TailraceError } from './errors.js';

export type { Attempt } from './backoff.js';

export interface Connection {
  state: 'connecting' | 'open' | 'waiting' | 'closed';
  /** Counts the requests of the stream from 1. */
  attempt: number;
  /** While waiting: when the next request is made, in milliseconds since 1970. */
  retryAt?: number | undefined;
  /** Why the last connection was lost, until an event has come again; or why the stream was given up. */
  error?: unknown;
}

/** How patient a stream is, and what it asks with. */
export interface ReconnectOptions extends BackoffOptions {
  /** A function is asked anew for each request: a fresh token each time. */
  headers?: HeadersSource | undefined;
  /** A connection without an event for so long is dropped, whatever its heartbeats say; off by default. */
  progressMs?: number | undefined;
  onConnection?: ((connection: Connection) => void) | undefined;
}

/** All else that `fetch` knows, `credentials` for one, goes to each request. */
export interface FollowOptions extends ReconnectOptions, Omit<RequestInit, 'headers' | 'method' | 'body' | 'signal'> {
  dialect?: Dialect | undefined;
  /** Where to begin: only what follows is delivered. */
  lastEventId?: string | undefined;
  /** Closes the stream. */
  signal?: AbortSignal | null | undefined;
  method?: string | undefined;
  /** Sent once; again only if nothing was answered and `headers` have an Idempotency-Key. */
  body?: BodyInit | null | undefined;
  fetch?: typeof fetch | undefined;
  /** Set over `headers`, the same for each request. */
  extra?: HeadersInit | undefined;
  /** The answer to the first request, if that was made already. */
  response?: Response | undefined;
}

/** Where a stream stands; shared by the loop and by what reads the bytes. */
export interface Place {
  lastEventId: string;
  /** Reconnection delay that the server asked for, in milliseconds. */
  retry?: number | undefined;
  /** Set when the stream has ended, or when the server asked to come back, which is no failure. */
  left?: 'ended' | 'back' | undefined;
}

/** Begins to read one connection. Who asks for more has taken what was yielded. */
export type Reading<T> = (place: Place) => (chunk: Uint8Array) => Iterable<T>;

export interface Stream<T> extends AsyncIterable<T> {
  /** The id of the last event that was delivered. */
  readonly lastEventId: string;
  readonly connection: Connection;
  /** Where the stream is resumed: the Location of the first answer, or the URL itself. */
  readonly url: string;
  /** The first answer, `undefined` if it was closed before there was one. Rejects as iterating does. */
  readonly opened: Promise<Response | undefined>;
  /** Calls back on each change; returns what ends that. */
  onConnection(listener: (connection: Connection) => void): () => void;
  /** Ends the wait before the next attempt. */
  retryNow(): void;
  /** Ends the stream at once, and the iteration with it. It does not cancel the run. */
  close(): void;
}

const WAKING = ['online', 'pageshow', 'visibilitychange'];

/** An answer that is no stream, as an error. */
const refusalOf = async (response: Response) => {
  const type = headerOf(response, 'content-type');
  const document = /json/i.test(type) ? await response.json().catch(nothing) : undefined;
  if (response.ok) return new NotAStreamError(type, response.status, document);
  const { code, message } = document?.error ?? {};
  return new RequestRefusedError(response.status, message, code, retryAfterOf(response) || undefined);
};

/** Reads a stream over as many connections as it takes. Connects at once; reads on when it is asked for more. */
export function follow<T>(url: string | URL, options: FollowOptions, read: Reading<T>): Stream<T> {
  const { headers: source, signal, maxAttempts = Infinity, fetch: send = fetch } = options;
  const { idleMs = IDLE_MS, progressMs = Infinity } = options;
  let { method = 'GET', body, response: given } = options;
  const home = new URL(url, globalThis.location?.href);
  const listeners = new Set(options.onConnection && [options.onConnection]);
  const { within, interrupt } = createWait();
  const life = new AbortController();
  let target = home;
  let number = 0;
  /** Attempts in a row that brought nothing; less than 0 after one that brought something. */
  let failures = 0;
  let status: number | undefined;
  let first: Response | undefined;
  /** Why the last connection was lost. */
  let lost: unknown;
  let closed = false;
  let iterated = false;
  let drop = nothing;

  const tell = (state: Connection['state'], retryAt?: number) => {
    const now: Connection = { state, attempt: number, error: lost, retryAt };
    stream.connection = now;
    // What a listener throws is none of the stream's business.
    for (const listener of listeners) queueMicrotask(() => listener(now));
  };

  const close = (error?: unknown) => {
    if (closed) return;
    closed = true;
    lost = error;
    tell('closed');
    life.abort();
    drop();
    interrupt();
  };

  async function* run(): AsyncGenerator<T, void> {
    try {
      while (!closed) {
        const aborting = new AbortController();
        let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
        let cause: unknown = Error('the connection ended');
        let leastMs = 0;
        /** Why this cannot be asked for again. */
        let stuck: string | false = false;
        drop = () => {
          aborting.abort();
          reader?.cancel().catch(nothing);
        };
        const ask = async () => {
          const headers = await headersFor(
            source,
            { number, status },
            stream.lastEventId,
            target,
            home,
            method === 'GET',
            options.extra,
          );
          stuck = method !== 'GET' && !headers.has('idempotency-key') && 'no Idempotency-Key';
          status = undefined;
          return send(target.href, { ...options, method, body, headers, signal: aborting.signal } as RequestInit);
        };
        stream.left = undefined;
        number++;
        tell('connecting');
        try {
          const before = status;
          const response = given ?? (await within(idleMs, ask()));
          given = undefined;
          status = response.status;
          const streams = isStream(response);
          const location = locationOf(response, target);
          if (streams || status === 204 || (status === 202 && method !== 'GET' && location)) {
            const there = location ?? target;
            // What else a GET asked for, a ticket for one, is to be asked for again.
            if (method !== 'GET' || (there.pathname !== target.pathname && options.dialect !== 'raw')) target = there;
            stream.url = target.href;
            stuck = method !== 'GET' && !location && 'no Location';
            method = 'GET';
            body = undefined;
            if (streams) reader = response.body?.getReader();
            if (!first) {
              first = response;
              // It is open; nothing is read before that is asked for.
              yield undefined as T;
            }
            if (closed || status === 204) return;
            status = undefined;
            if (!streams) continue;
            tell('open');
            const take = read(stream);
            let progressBy = Date.now() + progressMs;
            while (reader && !stream.left) {
              const { done, value } = await within(Math.min(idleMs, progressBy - Date.now()), reader.read());
              if (done) break;
              for (const item of take(value)) {
                failures = -1;
                if (lost) {
                  lost = undefined;
                  tell('open');
                }
                yield item;
                if (closed) return;
                progressBy = Date.now() + progressMs;
              }
            }
            if (stream.left === 'ended') return;
          } else if (status === 401 && before !== 401 && typeof source === 'function') {
            continue;
          } else {
            cause = await within(idleMs, refusalOf(response));
            if (stuck || !isPassing(status)) throw cause;
            leastMs = retryAfterOf(response);
          }
        } catch (error) {
          // All other errors are the network's.
          if (error instanceof TailraceError) throw error;
          cause = error;
        } finally {
          drop();
        }
        if (closed) return;
        const isAsked = stream.left === 'back';
        if (!isAsked) failures++;
        if (stuck || failures >= maxAttempts) throw new StreamBrokenError(stuck || `${cause}`, failures, cause);
        leastMs += waitMs(failures, stream.retry, options, isAsked);
        lost = cause;
        tell('waiting', Date.now() + leastMs);
        await within(leastMs).catch(nothing);
      }
    } catch (error) {
      close(error);
      throw error;
    } finally {
      close();
    }
  }

  const items = run();
  const stream: Place & { -readonly [Name in keyof Stream<T>]: Stream<T>[Name] } = {
    lastEventId: options.lastEventId ?? '',
    connection: { state: 'connecting', attempt: 0 },
    url: home.href,
    opened: Promise.resolve(undefined),
    onConnection(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    retryNow() {
      if (stream.connection.state === 'waiting') interrupt();
    },
    close: () => close(),
    [Symbol.asyncIterator]() {
      if (iterated) throw new TypeError('A stream is read once: open another');
      iterated = true;
      return {
        next: () => stream.opened.then(() => items.next()),
        async return() {
          close();
          return { done: true, value: undefined };
        },
      };
    },
  };
  const whileOpen = { signal: life.signal };
  const onPage = () => globalThis.document?.hidden || stream.retryNow();
  for (const type of WAKING) globalThis.addEventListener?.(type, onPage, whileOpen);
  signal?.addEventListener('abort', stream.close, whileOpen);
  if (signal?.aborted) close();
  stream.opened = items.next().then(() => first);
  // Who iterates is told as well.
  stream.opened.catch(nothing);
  return stream;
}
