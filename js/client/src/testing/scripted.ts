// A `fetch` that answers from a list, and remembers what it was asked.

/** A request as it was made. */
export interface Asked {
  method: string;
  /** Absolute; what was relative is below `http://test`. */
  url: string;
  path: string;
  headers: Headers;
  body: string | undefined;
  /** Whether whoever asked has left, before the answer or while it was read. */
  readonly left: boolean;
}

type Given = number | Response | Error;

/** A status without a body, a response, a failure of the network, or what makes one of them of the request. */
export type Answer = Given | ((asked: Asked) => Given | Promise<Given>);

export interface FakeFetch {
  (input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  /** All requests, in order. */
  readonly asked: readonly Asked[];
}

/** A `fetch` that gives its answers in order; whoever asks beyond them gets 410, which no client repeats. */
export function scriptedFetch(...answers: readonly Answer[]): FakeFetch {
  const waiting = [...answers];
  return fakeFetch((asked) => {
    const answer = waiting.shift() ?? 410;
    return typeof answer === 'function' ? answer(asked) : answer;
  });
}

/** A `fetch` over a function; an abort ends its answers as it ends those of the network. */
export function fakeFetch(answer: (asked: Asked) => Given | Promise<Given>): FakeFetch {
  const asked: Asked[] = [];
  const fetch = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const request = new Request(input instanceof Request ? input : new URL(`${input}`, 'http://test'), init);
    const { signal } = request;
    const url = new URL(request.url);
    const one: Asked = {
      method: request.method,
      url: url.href,
      path: url.pathname + url.search,
      headers: request.headers,
      body: request.body ? await request.text() : undefined,
      get left() {
        return signal.aborted;
      },
    };
    asked.push(one);
    signal.throwIfAborted();
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    // Where nobody waits for it, an abort is no failure.
    aborted.catch(() => {});
    const given = await Promise.race([answer(one), aborted]);
    if (given instanceof Error) throw given;
    return withAbort(typeof given === 'number' ? new Response(null, { status: given }) : given, url.href, aborted);
  };
  return Object.assign(fetch, { asked });
}

/** The response, its body broken by an abort, and with the URL that the network would have given it. */
function withAbort(response: Response, url: string, aborted: Promise<never>): Response {
  const reader = response.body?.getReader();
  // A body that has broken cannot be cancelled any more, and need not be.
  aborted.catch((reason) => reader?.cancel(reason).catch(() => {}));
  const body =
    reader &&
    new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { done, value } = await Promise.race([reader.read(), aborted]);
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: (reason) => reader.cancel(reason),
      },
      { highWaterMark: 0 },
    );
  const { status, headers } = response;
  return Object.defineProperty(new Response(body ?? null, { status, headers }), 'url', { value: url });
}
