import {
  type BackoffOptions,
  createWait,
  type HeadersSource,
  headersFor,
  IDLE_MS,
  isPassing,
  isStream,
  locationOf,
  nothing,
  retryAfterOf,
  waitMs,
} from './backoff.js';
import { RequestRefusedError, StreamBrokenError, TailraceError } from './errors.js';

export type { Attempt, HeadersSource } from './backoff.js';

export interface ResumableOptions extends BackoffOptions {
  /** Of the requests that resume and cancel; by default those of the first. A function is asked anew for each. */
  headers?: HeadersSource | undefined;
  /** What becomes of a run when its reader aborts, or cancels the body: it is cancelled, or goes on without it. */
  onAbort?: 'cancel' | 'detach' | undefined;
}

/** A line with its end: a name, and what follows its colon. */
const LINE = /([^:\r\n]*)(?:: ?([^\r\n]*))?(?:\r\n?|\n)/g;

/** Of a frame, in characters. */
const MOST_HELD = 8 << 20;

type Fields = Record<string, string>;

/**
 * Takes the bytes of one connection; gives what is whole: frames, and the comments between them at once.
 *
 * @param tell - called with the fields of each frame, and with each comment as the field without a name; if it returns
 * true, the frame and all that follows it is left out
 */
const wholeFrames = (tell: (fields: Fields) => boolean) => {
  // All comes out as it went in.
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  let rest = '';
  let frame = '';
  let last = '';
  let fields: Fields | undefined;
  return (chunk: Uint8Array) => {
    const text = utf8.decode(chunk, { stream: true });
    let whole = '';
    rest += text;
    // A line of many chunks is looked at once.
    for (const [line, name = '', value = ''] of /[\r\n]/.test(text) ? rest.matchAll(LINE) : []) {
      rest = rest.slice(line.length);
      frame += line;
      if (name) {
        fields = { ...fields, [name]: value };
      } else if (value) {
        // A line end may be cut in two.
        if (line.endsWith('\n')) tell({ [name]: value });
      } else if (fields && /^[\r\n]/.test(line) && (line !== '\n' || !last.endsWith('\r'))) {
        if (tell(fields)) return whole;
        fields = undefined;
      }
      last = line;
      if (fields) continue;
      whole += frame;
      frame = '';
    }
    if (rest.length + frame.length > MOST_HELD) throw new StreamBrokenError('a frame is too large');
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
    const asked = input as Partial<Request>;
    const home = new URL(asked.url ?? `${input}`, globalThis.location?.href);
    const location = locationOf(answer, home);
    if (!location || !isStream(answer) || !answer.body) return answer;

    const target: URL = location;

    const { maxAttempts = 10, idleMs = IDLE_MS, onAbort, headers: source = init?.headers ?? asked.headers } = options;
    const signal = init?.signal ?? asked.signal;
    const { within, interrupt } = createWait();
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined = answer.body.getReader();
    let aborting = new AbortController();
    let cursor = '';
    let retry: number | undefined;
    let number = 1;
    let status: number | undefined;
    /** Attempts in a row that brought nothing; less than 0 after one that brought something. */
    let failures = 0;
    let isResumable = true;
    let hasEnded = false;
    let over = false;
    let abort = nothing;

    const drop = () => {
      aborting.abort();
      reader?.cancel().catch(nothing);
      reader = undefined;
    };

    const ask = async (url: URL, method: string) => {
      aborting = new AbortController();
      const { signal } = aborting;
      const headers = await headersFor(source, { number: ++number, status }, cursor, url, home, true);
      const { credentials } = asked;
      return base(url.href, { credentials, ...init, method, body: undefined, headers, signal } as object);
    };

    const finish = () => {
      over = true;
      signal?.removeEventListener('abort', abort);
      drop();
      interrupt();
    };

    const leave = () => {
      if (over) return;
      finish();
      const [, run] = /^(.+)\/events\/?$/.exec(target.pathname) ?? [];
      // A client may stop reading at the last frame.
      if (!run || hasEnded || onAbort === 'detach') return;
      ask(new URL(`${run}/cancel`, target), 'POST')
        .then(({ body }) => body?.cancel())
        .catch(nothing);
    };

    async function* read(): AsyncGenerator<Uint8Array, void> {
      while (!over) {
        let cause: unknown = Error('the connection ended');
        let leastMs = 0;
        let isAsked = false;
        const take = wholeFrames(({ id = cursor, data, event, retry: delay, '': comment }) => {
          isAsked = event === 'reconnect';
          hasEnded ||= comment === 'end' || data === '[DONE]';
          retry = +(delay ?? 0) || retry;
          if (!id.includes('\0')) cursor = id;
          if (data !== undefined && !isAsked) {
            failures = -1;
            isResumable = cursor !== '';
          }
          return isAsked;
        });
        try {
          if (!reader) {
            const before = status;
            const response = await within(idleMs, ask(target, 'GET'));
            status = response.status;
            if (status === 204) return;
            if (status === 401 && before !== 401 && typeof source === 'function') continue;
            if (isPassing(status)) leastMs = retryAfterOf(response);
            else if (!isStream(response)) throw new RequestRefusedError(status);
            else {
              reader = response.body?.getReader();
              status = undefined;
            }
          }
          while (reader && !isAsked) {
            const { done, value } = await within(idleMs, reader.read());
            if (done) break;
            const whole = take(value);
            if (whole) yield new TextEncoder().encode(whole);
            if (hasEnded) return;
          }
        } catch (error) {
          if (error instanceof TailraceError) throw error;
          cause = error;
        } finally {
          drop();
        }
        if (over) return;
        if (!isAsked) failures++;
        if (!isResumable || failures >= maxAttempts) {
          throw new StreamBrokenError(isResumable ? `${cause}` : 'its frames have no ids', failures, cause);
        }
        await within(leastMs + waitMs(failures, retry, options, isAsked)).catch(nothing);
      }
    }

    const parts = read();
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
          try {
            const { value } = await parts.next();
            if (value) return controller.enqueue(value);
            // Where it was left, this is of no effect.
            controller.close();
          } catch (error) {
            controller.error(error);
          }
          finish();
        },
        cancel: leave,
      },
      { highWaterMark: 0 },
    );
    return Object.defineProperty(new Response(body, answer), 'url', { value: answer.url });
  };
}
