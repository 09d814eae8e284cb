// The one reconnect loop: what to ask, what an answer means, how long to wait. What the bytes mean, its users know.
import {
  type BackoffOptions,
  type HeadersSource,
  headerOf,
  headersFor,
  isPassing,
  isStream,
  nothing,
  retryAfterOf,
  waitMs,
  within,
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

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };
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
  const { idleMs = 36_000, progressMs = Infinity } = options;
  let { method = 'GET', body, response: given } = options;
  const home = new URL(url, globalThis.location?.href);
  const listeners = new Set(options.onConnection && [options.onConnection]);
  let target = home;
  let number = 0;
  /** Attempts in a row that brought nothing; less than 0 after one that brought something. */
  let failures = 0;
  let status: number | undefined;
  let first: Response | undefined;
  let closed = false;
  let iterated = false;
  /** Ends what is being waited for: an answer or bytes, or the time of the next attempt. */
  let interrupt: (reason?: unknown) => void = nothing;
  let wake = nothing;
  let quit = nothing;

  const tell = (state: Connection['state'], error?: unknown, retryAt?: number) => {
    const now: Connection = { state, attempt: number, error, retryAt };
    stream.connection = now;
    // What a listener throws is none of the stream's business.
    for (const listener of listeners) queueMicrotask(() => listener(now));
  };

  const end = (error?: unknown) => {
    if (closed) return;
    closed = true;
    signal?.removeEventListener('abort', close);
    tell('closed', error);
    interrupt();
    wake();
  };
  const close = () => {
    end();
    quit();
  };

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const onPage = () => globalThis.document?.hidden || wake();
      wake = () => {
        clearTimeout(timer);
        for (const type of WAKING) globalThis.removeEventListener?.(type, onPage);
        wake = nothing;
        resolve();
      };
      const timer = setTimeout(wake, ms);
      for (const type of WAKING) globalThis.addEventListener?.(type, onPage);
    });

  async function* run(): AsyncGenerator<T, void> {
    try {
      while (!closed) {
        const aborting = new AbortController();
        let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
        let progressBy = Infinity;
        let least = 0;
        let cause: unknown;
        /** Why this cannot be asked for again. */
        let stuck: string | false = false;
        interrupt = (reason) => {
          cause ??= reason;
          aborting.abort();
          reader?.cancel().catch(nothing);
        };
        const patiently = <V>(promise: Promise<V>) =>
          within(Math.min(idleMs, progressBy - Date.now()), promise, () => interrupt(Error('silence')));
        stream.left = undefined;
        number++;
        tell('connecting', stream.connection.error);
        try {
          let response = given;
          const before = status;
          if (!response) {
            const isLater = method !== (options.method ?? 'GET');
            const asking = { url: target, home, cursor: stream.lastEventId, isLater };
            const headers = await headersFor(source, { number, status }, asking);
            if (method !== 'GET' && !headers.has('idempotency-key')) stuck = 'no Idempotency-Key';
            if (closed) return;
            status = undefined;
            const init = { ...options, method, body, headers, signal: aborting.signal } as RequestInit;
            response = await patiently(send(target.href, init));
          }
          given = undefined;
          status = response.status;
          const streams = isStream(response);
          const location = headerOf(response, 'location');
          if (streams || status === 204 || (status === 202 && method !== 'GET' && location)) {
            const there = location ? new URL(location, response.url || target) : target;
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
            if (!streams) continue;
            tell('open', stream.connection.error);
            progressBy = Date.now() + progressMs;
            const take = read(stream);
            while (reader && !stream.left) {
              const { done, value } = await patiently(reader.read());
              if (done) break;
              for (const item of take(value)) {
                failures = -1;
                if (stream.connection.error) tell('open');
                yield item;
                if (closed) return;
                progressBy = Date.now() + progressMs;
              }
            }
            if (stream.left === 'ended') return;
            cause ??= Error('the connection ended');
          } else if (status === 401 && before !== 401 && typeof source === 'function') {
            continue;
          } else {
            cause = await patiently(refusalOf(response));
            if (stuck || !isPassing(status)) throw cause;
            least = retryAfterOf(response);
          }
        } catch (error) {
          // All other errors are the network's.
          if (error instanceof TailraceError) throw error;
          cause ??= error;
        } finally {
          interrupt();
        }
        if (closed) return;
        const isAsked = stream.left === 'back';
        if (!isAsked) failures++;
        if (stuck || failures >= maxAttempts) throw new StreamBrokenError(stuck || `${cause}`, failures, cause);
        const ms = least + waitMs(failures, stream.retry, options, isAsked);
        tell('waiting', cause, Date.now() + ms);
        await pause(ms);
      }
    } catch (error) {
      end(error);
      throw error;
    } finally {
      end();
    }
  }

  /** As the promise says, unless the stream is closed before: then nothing is waited for, whatever that does. */
  const unlessClosed = <V>(promise: Promise<V>, ifClosed: V) =>
    new Promise<V>((resolve, reject) => {
      quit = () => resolve(ifClosed);
      promise.then(resolve, reject);
    });

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
    retryNow: () => wake(),
    close,
    [Symbol.asyncIterator]() {
      if (iterated) throw new TypeError('A stream is read once: open another');
      iterated = true;
      return {
        async next() {
          await stream.opened;
          return closed ? DONE : unlessClosed(items.next(), DONE);
        },
        async return() {
          close();
          return DONE;
        },
      };
    },
  };
  if (signal?.aborted) close();
  signal?.addEventListener('abort', close);
  stream.opened = unlessClosed(
    items.next().then(() => first),
    undefined,
  );
  // Who iterates is told as well.
  stream.opened.catch(nothing);
  return stream;
}
