// What an answer means, and how long to wait for the next one: for streams of events, and of bytes.

export interface BackoffOptions {
  /** How many attempts in a row may bring nothing. */
  maxAttempts?: number | undefined;
  /** The first wait is random below this, and it doubles with each failure; the server's `retry:` replaces it. */
  backoffMs?: number | undefined;
  maxBackoffMs?: number | undefined;
  /** A connection without a byte for so long is dropped; by default 36 s, 2.4 heartbeats. */
  idleMs?: number | undefined;
}

/** What a `headers` function is told: which request of the stream this is, from 1, and the refusal that led to it. */
export interface Attempt {
  number: number;
  status?: number | undefined;
}

export type HeadersSource = HeadersInit | ((attempt: Attempt) => HeadersInit | Promise<HeadersInit>);

const LONGEST_RETRY_AFTER_MS = 300_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const SHORTEST_RETRY_MS = 100;

export const nothing = () => {};

export const headerOf = ({ headers }: Response, name: string) => headers.get(name) ?? '';

export const isStream = (response: Response) =>
  response.ok && /^text\/event-stream *(;|$)/i.test(headerOf(response, 'content-type'));

/** Whether the same request may be served later. */
export const isPassing = (status: number) => /408|425|429|5../.test(`${status}`);

export const retryAfterOf = (response: Response) => {
  const value = headerOf(response, 'retry-after');
  const ms = /^\d+$/.test(value) ? +value * 1000 : Date.parse(value) - Date.now();
  return ms > 0 ? Math.min(ms, LONGEST_RETRY_AFTER_MS) : 0;
};

/**
 * A random wait: clients that were dropped together must not come back together.
 *
 * @param isAsked - the server asked to come back after `retry`, so not before
 */
export const waitMs = (failures: number, retry: number | undefined, options: BackoffOptions, isAsked: boolean) => {
  const { backoffMs = 1000, maxBackoffMs = 15_000 } = options;
  const base = Math.min(maxBackoffMs, retry === undefined ? backoffMs : Math.max(SHORTEST_RETRY_MS, retry));
  const random = Math.random();
  return isAsked ? base * (1 + random / 2) : random * Math.min(maxBackoffMs, base * 2 ** Math.max(0, failures - 1));
};

export interface Asking {
  url: URL;
  /** Where `headers` may prove who asks. */
  home: URL;
  cursor: string;
  /** Whether these are headers of an earlier request, with a body and maybe a key. */
  isLater: boolean;
}

/** The headers of one request. */
export const headersFor = async (
  source: HeadersSource | undefined,
  attempt: Attempt,
  { url, home, cursor, isLater }: Asking,
) => {
  const headers = new Headers(typeof source === 'function' ? await source(attempt) : source);
  headers.set('accept', 'text/event-stream');
  // A header carries bytes: those of the id in UTF-8.
  if (cursor) headers.set('last-event-id', String.fromCharCode(...new TextEncoder().encode(cursor)));
  const page = globalThis.location?.origin;
  // On another origin it would need a permission.
  if (!page || url.origin === page) headers.set('tailrace-client', 'js/0.1.0');
  const unfit = isLater ? ['content-type', 'content-length', 'idempotency-key'] : [];
  if (url.origin !== home.origin) unfit.push('authorization', 'cookie');
  for (const name of unfit) headers.delete(name);
  return headers;
};

/** The promise; if it takes longer, `giveUp` is to end what it waits for. */
export const within = <T>(ms: number, promise: Promise<T>, giveUp: () => void) => {
  const timer = ms <= LONGEST_TIMER_MS ? setTimeout(giveUp, ms) : undefined;
  return promise.finally(() => clearTimeout(timer));
};
