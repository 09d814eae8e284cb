// What an answer means, and how long to wait for the next one: for streams of events, and of bytes.
import { StreamBrokenError } from './errors.js';

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

export const IDLE_MS = 36_000;
const LONGEST_RETRY_AFTER_MS = 300_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const SHORTEST_RETRY_MS = 100;

export const nothing = () => {};

export const headerOf = ({ headers }: Response, name: string) => headers.get(name) ?? '';

export const isStream = (response: Response) =>
  response.ok && /^text\/event-stream *(;|$)/i.test(headerOf(response, 'content-type'));

/** Where the answer says that a run's log is; nothing, if no request can go there. */
export const locationOf = (response: Response, asked: URL) => {
  const location = headerOf(response, 'location');
  try {
    const url = new URL(location, response.url || asked);
    return location && /^https?:/.test(url.href) ? url : undefined;
  } catch {
    return undefined;
  }
};

/** Whether the same request may be served later. */
export const isPassing = (status: number) => /408|425|429|5../.test(`${status}`);

export const retryAfterOf = (response: Response) => {
  const value = headerOf(response, 'retry-after');
  const ms = +value * 1000 || Date.parse(value) - Date.now() || 0;
  return Math.max(0, Math.min(ms, LONGEST_RETRY_AFTER_MS));
};

/**
 * A random wait: clients that were dropped together must not come back together.
 *
 * @param isAsked - the server asked to come back after `retry`, so not before
 */
export const waitMs = (failures: number, retry: number | undefined, options: BackoffOptions, isAsked = false) => {
  const { backoffMs = 1000, maxBackoffMs = 15_000 } = options;
  const base = Math.min(maxBackoffMs, retry === undefined ? backoffMs : Math.max(SHORTEST_RETRY_MS, retry));
  const random = Math.random();
  return isAsked ? base * (1 + random / 2) : random * Math.min(maxBackoffMs, base * 2 ** Math.max(0, failures - 1));
};

/**
 * The headers of one request.
 *
 * @param home - where `source` may prove who asks
 * @param isBare - the request has neither the body nor the key that these may be about
 * @param extra - set over those of `source`
 */
export const headersFor = async (
  source: HeadersSource | undefined,
  attempt: Attempt,
  cursor: string,
  { origin }: URL,
  home: URL,
  isBare: boolean,
  extra?: HeadersInit,
) => {
  // What a caller sends may be a key, by whatever name.
  const given = origin === home.origin ? source : undefined;
  const headers = new Headers(typeof given === 'function' ? await given(attempt) : given);
  new Headers(extra).forEach((value, name) => void headers.set(name, value));
  headers.set('accept', 'text/event-stream');
  // A header carries bytes: those of the id in UTF-8.
  const id = Array.from(new TextEncoder().encode(cursor), (byte) => String.fromCharCode(byte)).join('');
  if (/[^\t -~\x80-\xff]/.test(id)) throw new StreamBrokenError('an id fits in no header');
  if (id) headers.set('last-event-id', id);
  // On another origin it would need a permission.
  if (origin === (globalThis.location?.origin ?? origin)) headers.set('tailrace-client', 'js/0.1.0');
  for (const name of isBare ? ['content-type', 'content-length', 'idempotency-key'] : []) headers.delete(name);
  return headers;
};

/** One thing to wait for at a time. */
export const createWait = () => {
  let interrupt: (reason?: unknown) => void = nothing;
  return {
    /** As the promise; rejects if that takes longer, or when it is interrupted. */
    within: <T>(ms: number, promise?: Promise<T>) => {
      let timer: unknown;
      return new Promise<T>((resolve, reject) => {
        interrupt = reject;
        timer = setTimeout(() => reject(Error('silence')), Math.min(ms, LONGEST_TIMER_MS));
        promise?.then(resolve, reject);
      }).finally(() => clearTimeout(timer as number));
    },
    interrupt: () => interrupt(),
  };
};
