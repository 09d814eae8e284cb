// What the tabs of a browser tell each other about what they read.
import { TERMINAL_TYPES } from './events.gen.js';
import type { Connection } from './machine.js';
import type { ServerSentEvent } from './sse.js';
import type { EventStream } from './stream.js';

/** What is read: a run by its id, or the runs of a thread by `?` and its name. */
export type Key = string;

/** What tabs tell each other; each hears what it says itself. */
export type Message =
  /** `tab` wants what follows number `after`; without a number, nothing any more. */
  | { tab: string; key: Key; after: number | undefined }
  /** The leader has read these. */
  | { events: ServerSentEvent[] }
  | { connection: Connection }
  /** These cannot be shared: to be read by each tab on its own. `all`: nothing can, now or later. */
  | { refused: Key[]; all: boolean }
  /** There is a new leader, and it asks what is wanted. */
  | { asks: true }
  /** The leader shall not wait any longer before it connects. */
  | { retry: true };

export interface SharingParts {
  /** The same for all tabs that share, and for no others. */
  name: string;
  /** Opens the feed; the query is asked for at each attempt. */
  open: (query: () => URLSearchParams) => EventStream;
  /** Rejects if the server knows no identities, and so has no feed. */
  identified: () => Promise<unknown>;
}

/** The number in an id `run:7`. */
export const seqOf = ({ id }: ServerSentEvent) => +id.slice(id.indexOf(':') + 1);

/** Whether it is the last event of its run. */
export const endsRun = ({ event }: ServerSentEvent) => TERMINAL_TYPES.some((type) => type === event);
