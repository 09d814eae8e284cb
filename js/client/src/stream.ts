import { type Dialect, lastOf } from './endings.js';
import { StreamBrokenError } from './errors.js';
import { type FollowOptions, follow, type Stream } from './machine.js';
import { Decoder, type ServerSentEvent } from './sse.js';

export interface StreamOptions extends FollowOptions {
  /** How the stream says that it has ended; by default `native`. `raw` is any endpoint. */
  dialect?: Dialect | undefined;
  /** Bound on one event, by default 8 MiB. */
  maxEventBytes?: number | undefined;
}

export type EventStream = Stream<ServerSentEvent>;

/** A last event id that no stream can set: none has come on this connection. */
const NONE_YET = '\0';

/** The cursors of our server: `7`, and `7.2` if two frames of event 8 were seen too; with or without `run:` before. */
const CURSOR = /^((?:[A-Za-z0-9][\w-]{0,63}:)?)(\d{1,15})(?:\.(\d{1,6}))?$/;

/** The first number that a merged event covers. */
const firstOf = (data: string): number | undefined => {
  try {
    return data.includes('"first":') ? JSON.parse(data).first : undefined;
  } catch {
    return undefined;
  }
};

/**
 * Opens a stream of any SSE endpoint, and resumes it until it has ended.
 *
 * Iterating throws `RequestRefusedError`, `NotAStreamError` or `StreamBrokenError` where going on is of no use. In
 * `native`, an event of the type `reset` says that the stream begins anew.
 */
export const openStream = (url: string | URL, options: StreamOptions = {}): EventStream =>
  openEvents(url, options, lastOf(options.dialect ?? 'native'));

/** Opens a stream whose last event is known by `isLast`. */
export function openEvents(
  url: string | URL,
  options: StreamOptions,
  isLast: (event: ServerSentEvent) => boolean,
): EventStream {
  const { dialect = 'native', maxEventBytes } = options;
  const isNative = dialect === 'native';
  const isRaw = dialect === 'raw';
  const lastEventId = options.lastEventId || (isNative && /[?&]after=(\d+)/.exec(`${url}`)?.[1]) || '';
  let gapAfter: string | undefined;

  /** Whether an event with an id of its own is new to who has seen the cursor. */
  const isNew = ({ id, data }: ServerSentEvent, cursor: string) => {
    const [, run, seq, frames = 0] = CURSOR.exec(id) ?? [];
    const [, sameRun = run, after = 0, seen = 0] = CURSOR.exec(cursor) ?? [];
    if (isRaw || !seq || run !== sameRun) return true;
    if ((+seq - +after || +frames - +seen) <= 0) return false;
    if (!isNative || (firstOf(data) ?? +seq) === +after + 1) return true;
    // Once more from here; then it is not the connection's fault.
    const error = gapAfter === cursor ? new StreamBrokenError('events are missing') : Error('events are missing');
    gapAfter = cursor;
    throw error;
  };

  return follow(url, { ...options, lastEventId }, (place) => {
    let id = NONE_YET;
    let isFresh = true;
    let hasEnded = false;
    const onComment = (text: string) => {
      hasEnded ||= text === 'end';
    };
    const decoder = new Decoder({ lastEventId: id, maxEventBytes, onComment });
    return function* (chunk) {
      const events = decoder.feed(chunk);
      place.retry = decoder.retry ?? place.retry;
      for (const event of events) {
        if (event.id !== id) {
          isFresh = isNew(event, place.lastEventId);
          id = event.id;
          if (isFresh) place.lastEventId = id;
        } else if (!isRaw && event.event === 'reconnect' && /^\{("reason":.*)?\}$/.test(event.data)) {
          place.left = 'back';
          return;
        } else if (isNative && event.event === 'reset') {
          isFresh = true;
          place.lastEventId = '';
          id = NONE_YET;
        } else if (isNative && isLast(event)) {
          // It has no number: the store could not take it any more.
          isFresh = true;
        }
        if (!isFresh) continue;
        event.id = place.lastEventId;
        yield event;
        if (isLast(event)) {
          place.left = 'ended';
          return;
        }
      }
      // An id may come without an event.
      if (!isNative && decoder.lastEventId !== id) place.lastEventId = id = decoder.lastEventId;
      if (hasEnded) place.left = 'ended';
    };
  });
}
