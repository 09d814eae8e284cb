import { RunFailedError, StreamBrokenError } from './errors.js';
import type { Entry } from './events.gen.js';
import type { Connection } from './machine.js';
import { type RunEvent, reduce, textOf } from './reduce.js';
import type { Reduced } from './reduced.gen.js';
import type { ServerSentEvent } from './sse.js';

/** Where a run's frames come from: a stream of its own, or one that is shared. */
export interface Source extends AsyncIterable<ServerSentEvent> {
  readonly connection: Connection;
  onConnection(listener: (connection: Connection) => void): () => void;
  retryNow(): void;
  close(): void;
  /** Set when it ended because the run cannot be shared: it is to be read on its own. */
  readonly refused?: boolean;
}

export interface Run extends AsyncIterable<RunEvent> {
  readonly id: string;
  /** Its log, as a URL to attach to. */
  readonly url: string;
  /** Number of the last event that was delivered. */
  readonly cursor: number;
  /** `running` until the last event was delivered, however long ago that was written. */
  readonly status: Reduced['status'];
  readonly connection: Connection;
  /** Calls back on each change; returns what ends that. */
  onConnection(listener: (connection: Connection) => void): () => void;
  /**
   * Yields what follows the cursor, over all reconnects, up to the event that ends the run.
   *
   * @throws TypeError - it is being iterated already; `attach` gives a run of its own
   * @throws RequestRefusedError, NotAStreamError, StreamBrokenError - the log cannot be read
   */
  [Symbol.asyncIterator](): AsyncGenerator<RunEvent, void>;
  /** Waits for the end, whatever it is: the run from its beginning, reduced. Reads it anew if that takes it. */
  reduced(): Promise<Reduced>;
  /**
   * Waits for the end: the run reduced, with what its source handed over as `result`.
   *
   * @throws RunFailedError - it ended otherwise than completed
   */
  result<T = unknown>(): Promise<Reduced & { result?: T }>;
  /**
   * Waits for the end: all text, as it was streamed.
   *
   * @throws RunFailedError - it ended otherwise than completed
   */
  text(): Promise<string>;
  /** Asks the server to stop the run; false if it had ended. That it has stopped, its last event tells. */
  cancel(): Promise<boolean>;
  /** Ends the reading, and nothing else. */
  close(): void;
  /** Ends the wait before the next attempt to connect. */
  retryNow(): void;
}

export interface RunParts {
  id: string;
  url: string;
  after?: number | undefined;
  /** Finds out what to read from, on its own if that is what it takes; what it resolves to opens that. */
  open: (cursor: number, alone: boolean) => Promise<() => Source>;
  /** Opened already. */
  source?: Source | undefined;
  /** The whole run, if that is what the server answered with. */
  document?: Reduced | undefined;
  attach: () => Run;
  cancel: () => Promise<boolean>;
}

export function createRun({ id, url, after = 0, open, source, document, attach, cancel }: RunParts): Run {
  const listeners = new Set<(connection: Connection) => void>();
  let connection: Connection = { state: 'closed', attempt: 0 };
  let cursor = after;
  let state = document;
  let reading = false;
  let closed = false;

  const use = (opened: Source) => {
    source = opened;
    const tell = (now: Connection) => {
      connection = now;
      // What a listener throws is none of the run's business.
      for (const listener of listeners) queueMicrotask(() => listener(now));
    };
    tell(opened.connection);
    opened.onConnection(tell);
  };
  if (source) use(source);

  async function* read(): AsyncGenerator<RunEvent, void> {
    if (reading || closed) throw new TypeError('The run is being read, or was closed: attach to it again.');
    reading = true;
    try {
      do {
        if (!source || source.refused) {
          const opened = await open(cursor, !!source);
          if (closed) return;
          use(opened());
        }
        for await (const { event, data, id: place } of source as Source) {
          const seq = +place.slice(place.indexOf(':') + 1);
          const next: RunEvent =
            event === 'reset' ? { type: event } : { ...(JSON.parse(data) as Entry), seq: seq > cursor ? seq : 0 };
          state = reduce(state, next);
          cursor = next.type === 'reset' ? 0 : next.seq || cursor;
          yield next;
        }
      } while (source?.refused && !closed);
    } finally {
      reading = false;
      source?.close();
      source = undefined;
    }
  }

  /** The last event was read, and the first. */
  const isWhole = () => state?.run_id && state.status !== 'running';

  const run: Run = {
    id,
    url,
    get cursor() {
      return cursor;
    },
    get status() {
      return state?.status ?? 'running';
    },
    get connection() {
      return connection;
    },
    onConnection(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    [Symbol.asyncIterator]: read,
    async reduced() {
      if (!isWhole()) {
        if (reading || closed || (cursor && !state?.run_id)) return attach().reduced();
        for await (const _ of run);
      }
      if (!isWhole()) throw new StreamBrokenError('the reading was closed');
      return state as Reduced;
    },
    async result() {
      const reduced = await run.reduced();
      const { status, failure } = reduced;
      if (status !== 'completed') throw new RunFailedError(id, status, failure?.code ?? status, failure?.message);
      return reduced as never;
    },
    text: async () => textOf(await run.result()),
    cancel,
    close() {
      closed = true;
      source?.close();
    },
    retryNow: () => source?.retryNow(),
  };
  return run;
}
