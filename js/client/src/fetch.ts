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
import { RequestRefusedError, StreamBrokenError, TailraceError } from './errors.js';

export type { Attempt, HeadersSource } from './backoff.js';

export interface ResumableOptions extends BackoffOptions {
  /** Of the requests that resume and cancel; by default those of the first. A function is asked anew for each. */
  headers?: HeadersSource | undefined;
  /** What becomes of a run when its reader aborts, or cancels the body: it is cancelled, or goes on without it. */
  onAbort?: 'cancel' | 'detach' | undefined;
}

/** Where a byte is: at the start of a line outside of frames, in a comment there, in a line of a frame, at its start. */
const OUTSIDE = 0;
const IN_COMMENT = 1;
const IN_LINE = 2;
const AT_LINE = 3;

/** Gives of each chunk what it completes: whole frames, and comments between them at once. */
const wholeFrames = () => {
  let held: Uint8Array[] = [];
  let place = OUTSIDE;
  let last = 0;
  return (chunk: Uint8Array) => {
    let end = 0;
    chunk.forEach((byte, at) => {
      if (byte === 13 || (byte === 10 && last !== 13)) place = place === IN_LINE ? AT_LINE : OUTSIDE;
      else if (byte !== 10) place = place === AT_LINE ? IN_LINE : place || (byte === 58 ? IN_COMMENT : IN_LINE);
      if (place === OUTSIDE) end = at + 1;
      last = byte;
    });
    const whole = end ? [...held, chunk.subarray(0, end)] : [];
    if (end) held = [];
    if (end < chunk.length) held.push(chunk.subarray(end));
    return whole;
  };
};

/**
 * A `fetch` whose event streams come back when they break, for clients that know nothing of it.
 *
 * An answer that is an event stream with a `Location` gets a body that is spliced of as many answers as it takes to
 * reach the end, of whole frames only; it errors if the end is not to be had. All other answers are left as they are.
 *
 * @param base - makes the requests
 */
export function resumable(base: typeof fetch = fetch, options: ResumableOptions = {}): typeof fetch {
  return async (input, init) => {
    const answer = await base(input, init);
    const location = headerOf(answer, 'location');
    if (!location || !isStream(answer) || !answer.body) return answer;

    const asked = input as Partial<Request>;
    const { maxAttempts = 10, idleMs = 36_000, onAbort, headers: source = init?.headers ?? asked.headers } = options;
    const signal = init?.signal ?? asked.signal;
    const home = new URL(asked.url ?? `${input}`, globalThis.location?.href);
    const target = new URL(location, answer.url || home);
    const utf8 = new TextDecoder();
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined = answer.body.getReader();
    let take = wholeFrames();
    let aborting = new AbortController();
    let cursor = '';
    let retry: number | undefined;
    let number = 1;
    let status: number | undefined;
    /** Attempts in a row that brought nothing; less than 0 after one that brought something. */
    let failures = 0;
    let isResumable = true;
    let over = false;
    let wake = nothing;

    const drop = () => {
      aborting.abort();
      aborting = new AbortController();
      reader?.cancel().catch(nothing);
      reader = undefined;
    };

    const finish = () => {
      over = true;
      signal?.removeEventListener('abort', abort);
      drop();
      wake();
    };

    const ask = async (url: URL, method = 'GET') => {
      const headers = await headersFor(source, { number: ++number, status }, { url, home, cursor, isLater: true });
      const { credentials } = asked;
      const again = { credentials, ...init, method, body: undefined, headers, signal: aborting.signal };
      return base(url.href, again as object);
    };

    const leave = () => {
      if (over) return;
      finish();
      const [, run] = /^(.+)\/events\/?$/.exec(target.pathname) ?? [];
      if (run && onAbort !== 'detach') ask(new URL(`${run}/cancel`, target), 'POST').then(drop, nothing);
    };

    async function* read(): AsyncGenerator<Uint8Array, void> {
      for (;;) {
        let least = 0;
        let isAsked = false;
        let cause: unknown = Error('the connection ended');
        try {
          if (!reader) {
            const before = status;
            const response = await within(idleMs, ask(target), drop);
            status = response.status;
            if (status === 204) return;
            if (status === 401 && before !== 401 && typeof source === 'function') {
              drop();
              continue;
            }
            if (isPassing(status)) least = retryAfterOf(response);
            else if (!isStream(response)) throw new RequestRefusedError(status);
            else reader = response.body?.getReader();
            take = wholeFrames();
          }
          while (reader) {
            const { done, value } = await within(idleMs, reader.read(), drop);
            if (done) break;
            const whole = take(value);
            const text = whole.map((part) => utf8.decode(part, { stream: true })).join('');
            // Said to us, and the last of this connection.
            const [said, before = text] = /^([\s\S]*?(?:^|\n))(?:retry:.*\n)?event: ?reconnect\n/.exec(text) ?? [];
            for (const [, field, number] of text.matchAll(/(?:^|[\r\n])(id|retry): ?([^\r\n\0]*)(?=[\r\n])/g))
              if (field === 'id') cursor = number ?? '';
              else retry = +(number ?? 0) || retry;
            if (/(?:^|[\r\n])data/.test(text)) {
              failures = -1;
              isResumable = cursor !== '';
            }
            if (!said) yield* whole;
            else if (before) yield new TextEncoder().encode(before);
            if (/(?:^|[\r\n])(?:: end|data: \[DONE])\r?\n/.test(text)) return;
            if (said) {
              isAsked = true;
              break;
            }
          }
        } catch (error) {
          if (error instanceof TailraceError) throw error;
          cause = error;
        }
        if (over) return;
        drop();
        if (!isResumable) throw new StreamBrokenError('its frames have no ids', 0, cause);
        if (!isAsked && ++failures >= maxAttempts) throw new StreamBrokenError(`${cause}`, failures, cause);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, least + waitMs(failures, retry, options, isAsked));
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        if (over) return;
      }
    }

    const parts = read();
    let abort = leave;
    const body = new ReadableStream<Uint8Array>(
      {
        start(controller) {
          abort = () => {
            leave();
            controller.error(signal?.reason);
          };
          signal?.addEventListener('abort', abort);
        },
        async pull(controller) {
          const { done, value } = await parts.next().catch((error) => {
            finish();
            throw error;
          });
          if (over) return;
          if (value) controller.enqueue(value);
          if (done) {
            finish();
            controller.close();
          }
        },
        cancel: leave,
      },
      { highWaterMark: 0 },
    );
    return Object.defineProperty(new Response(body, answer), 'url', { value: answer.url });
  };
}
