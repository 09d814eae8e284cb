// What a server answers, made by hand: the parts that fakes of servers, and tests of one's own, are built from.

/** One frame, as its fields; data that is no text is written as JSON. */
export interface Frame {
  id?: string | number;
  event?: string;
  retry?: number;
  data?: unknown;
}

/** A frame, or text that is written as it is, such as `': hb\n'`. */
export type Written = Frame | string;

export interface StreamInit {
  status?: number;
  /** Beside `content-type: text/event-stream`. */
  headers?: HeadersInit;
  /** `end`: politely. `break`: with an error, as a lost connection does. `hang`: not at all. Default: `end`. */
  ends?: 'end' | 'break' | 'hang';
}

const encoder = new TextEncoder();

/** The text of a frame. */
export function frame(written: Written): string {
  if (typeof written === 'string') return written;
  const { id, event, retry, data } = written;
  const text = typeof data === 'string' ? data : JSON.stringify(data);
  const lines = [
    retry === undefined ? [] : `retry: ${retry}`,
    id === undefined ? [] : `id: ${id}`,
    event === undefined ? [] : `event: ${event}`,
    text === undefined ? [] : text.split(/\r\n|\r|\n/).map((line) => `data: ${line}`),
  ];
  return `${lines.flat().join('\n')}\n\n`;
}

/** How a response that is read may go on: the next text, or one of the ways it ends. */
export type Step = string | { ends: 'end' | 'break' };

/** A response whose body is asked for step by step; nothing is read ahead. `left` is told if its reader leaves. */
export function answerOf(
  next: () => Step | Promise<Step>,
  status: number,
  headers: Headers,
  left: () => void = () => {},
): Response {
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const step = await next();
        try {
          if (typeof step === 'string') controller.enqueue(encoder.encode(step));
          else if (step.ends === 'end') controller.close();
          else controller.error(new TypeError('the connection was lost'));
        } catch {
          // Whoever read it has left meanwhile.
        }
      },
      cancel: left,
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { status, headers });
}

/** An event stream of these frames, one in each read. */
export function eventStream(
  written: readonly Written[],
  { status = 200, headers, ends = 'end' }: StreamInit = {},
): Response {
  const all = new Headers(headers);
  if (!all.has('content-type')) all.set('content-type', 'text/event-stream');
  const waiting = [...written];
  const next = (): Step | Promise<Step> => {
    const one = waiting.shift();
    if (one !== undefined) return frame(one);
    return ends === 'hang' ? new Promise<Step>(() => {}) : { ends };
  };
  return answerOf(next, status, all);
}

/** What our server answers when it refuses: `{"error": {code, message, status}}`. */
export function refusal(status: number, code = 'refused', headers?: HeadersInit): Response {
  const all = new Headers(headers);
  all.set('content-type', 'application/json');
  return new Response(JSON.stringify({ error: { code, message: `Refused with ${status}.`, status } }), {
    status,
    headers: all,
  });
}
