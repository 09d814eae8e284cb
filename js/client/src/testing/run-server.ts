// A server of one run, without a network: what a page's tests need of one, its failures included.
import { type Entry, type Event, TERMINAL_TYPES } from '../events.gen.js';
import { reduce, textOf } from '../reduce.js';
import type { Reduced } from '../reduced.gen.js';
import { answerOf, frame, refusal, type Step } from './answers.js';
import { type Answer, type Asked, type FakeFetch, fakeFetch } from './scripted.js';

export interface RunServerOptions {
  /** What the run has produced already, after `run.started`. Without a terminal event it goes on: see `emit`. */
  events?: readonly Event[];
  /** After so many events each connection is lost, one after the other; those beyond the list are not. */
  cuts?: readonly number[];
  /** How it is lost: `break`, the default, or `end`, as by a polite proxy. */
  cutBy?: 'break' | 'end';
  /** Given to the first requests, before anything is served: `[503, 401]`. */
  refuse?: readonly Answer[];
  runId?: string;
  /** Where the run routes are, by default `/runs`. Whatever else is sent by POST starts the run. */
  path?: string;
}

export interface RunServer {
  /** Hand it to what is tested, as its `fetch`. */
  readonly fetch: FakeFetch;
  readonly runId: string;
  /** The log so far. */
  readonly entries: readonly Entry[];
  /** How many connections are being read. */
  readonly readers: number;
  /**
   * Adds to the log, and wakes who reads.
   *
   * @throws TypeError - the run has ended
   */
  emit(...events: readonly Event[]): void;
  /** Loses all connections that are being read. */
  drop(by?: 'break' | 'end'): void;
  /** Answers the next requests so, before anything is served. */
  refuse(...answers: readonly Answer[]): void;
  /** Asks all readers to come back, as a server does that stops, or whose caller's token is over. */
  sendAway(reason?: 'expired', retryMs?: number): void;
}

/** One connection: where it stands, what is to be said next, and how it ends after that. */
interface Reader {
  cursor: number;
  left: number;
  saying: string[];
  ends?: 'break' | 'end';
}

const FIRST_MS = 1_700_000_000_000;
const RETRY_MS = 1000;

const isTerminal = (entry: Event | undefined) => TERMINAL_TYPES.some((type) => type === entry?.type);

const json = (value: unknown, status = 200) =>
  new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json' } });

/** Serves one run: its start, its log after any cursor, its document, its cancelling. */
export function runServer(options: RunServerOptions = {}): RunServer {
  const { runId = 'run_test', path = '/runs', cutBy = 'break', events = [] } = options;
  const log: Entry[] = [];
  const cuts = [...(options.cuts ?? [])];
  const refused = [...(options.refuse ?? [])];
  const readers = new Set<Reader>();
  const url = `${path}/${runId}`;
  let wake = () => {};
  let news = Promise.resolve();
  const tell = () => {
    wake();
    news = new Promise((resolve) => {
      wake = resolve;
    });
  };
  tell();

  const emit = (...added: readonly Event[]) => {
    for (const event of added) {
      if (isTerminal(log.at(-1))) throw new TypeError('The run has ended: nothing comes after its terminal event.');
      const seq = log.length + 1;
      log.push({ ...event, at_ms: FIRST_MS + seq, seq });
    }
    tell();
  };

  const end = (by: 'break' | 'end', ...saying: readonly string[]) => {
    for (const reader of readers) {
      reader.saying = [...saying];
      reader.ends = by;
    }
    tell();
  };

  async function next(reader: Reader): Promise<Step> {
    for (;;) {
      const said = reader.saying.shift();
      if (said !== undefined) return said;
      const ends = reader.ends ?? (reader.left <= 0 ? cutBy : undefined);
      if (ends) {
        readers.delete(reader);
        return { ends };
      }
      const entry = log[reader.cursor];
      if (!entry) {
        await news;
        continue;
      }
      reader.cursor++;
      reader.left--;
      const { seq, ...record } = entry;
      if (isTerminal(entry) && reader.left > 0) {
        reader.saying = [': end\n'];
        reader.ends = 'end';
      }
      return frame({ id: seq, event: record.type, data: record });
    }
  }

  function read(after: number, isGet: boolean): Response {
    if (isGet && after === log.length && isTerminal(log.at(-1))) return new Response(null, { status: 204 });
    const isAhead = after > log.length;
    const reader: Reader = {
      cursor: isAhead ? 0 : after,
      left: cuts.shift() ?? Number.POSITIVE_INFINITY,
      saying: isAhead ? [frame({ event: 'reset', data: {} })] : [],
    };
    readers.add(reader);
    const headers = new Headers({ 'content-type': 'text/event-stream', location: `${url}/events` });
    return answerOf(
      () => next(reader),
      200,
      headers,
      () => readers.delete(reader),
    );
  }

  function document(): Response {
    const reduced = log.reduce<Reduced | undefined>(reduce, undefined);
    return json({ ...reduced, text: reduced ? textOf(reduced) : '', events_url: `${url}/events` });
  }

  function cancel(): Response {
    const accepted = !isTerminal(log.at(-1));
    if (accepted) emit({ type: 'run.cancelled', reason: 'user' });
    return json({ run_id: runId, accepted }, accepted ? 202 : 200);
  }

  function serve({ method, url: asked, headers }: Asked): Response {
    const { pathname, searchParams } = new URL(asked);
    const isGet = method === 'GET';
    if (pathname === `${url}/cancel` && !isGet) return cancel();
    if (pathname === url && isGet) return document();
    if (pathname === `${url}/events` && isGet)
      return read(Number(headers.get('last-event-id') ?? searchParams.get('after') ?? 0), true);
    return isGet || pathname.startsWith(`${path}/`) ? refusal(404, 'run_not_found') : read(0, false);
  }

  if (events[0]?.type !== 'run.started') emit({ type: 'run.started', run_id: runId });
  emit(...events);

  return {
    fetch: fakeFetch((asked) => {
      const answer = refused.shift();
      if (answer === undefined) return serve(asked);
      return typeof answer === 'function' ? answer(asked) : answer;
    }),
    runId,
    entries: log,
    get readers() {
      return readers.size;
    },
    emit,
    drop: (by = 'break') => end(by),
    refuse: (...answers) => {
      refused.push(...answers);
    },
    sendAway: (reason, retryMs = RETRY_MS) =>
      end('end', frame({ retry: retryMs, event: 'reconnect', data: reason ? { reason } : {} })),
  };
}
