// One connection for all tabs of a browser: one of them, the leader, reads, and tells the others what it reads.
import { type Feed, readFeed } from './feed.js';
import { randomKey } from './keys.js';
import type { Connection } from './machine.js';
import type { Source } from './run.js';
import type { ServerSentEvent } from './sse.js';
import { endsRun, type Key, type Message, type SharingParts, seqOf } from './tabs.js';

export interface Sharing {
  /** Reads from the number after `after` on; `undefined` if nothing can be shared. */
  read(key: Key, after: number): Source | undefined;
}

/** How many events may wait in a tab for their reader; beyond that they are asked for again. */
const LONGEST_WAIT = 4096;

/** How long the leader may take to answer a tab that wants something. */
const LONGEST_SILENCE_MS = 5000;

const never = () => new Promise<never>(() => {});

interface Reader extends Source {
  key: Key;
  ask(): void;
  take(event: ServerSentEvent): void;
  tell(connection: Connection): void;
  refuse(): void;
}

export function createSharing({ name, open, identified }: SharingParts): Sharing {
  const tab = randomKey();
  const lockOf = (tab: string) => `${name} ${tab}`;
  const readers = new Set<Reader>();
  const channel = new BroadcastChannel(name);
  const { locks } = navigator;
  let connection: Connection = { state: 'connecting', attempt: 0 };
  let lead: Feed | undefined;
  let silence: unknown;
  let known = false;
  let off = false;

  const hear = (message: Message) => {
    if ('key' in message) return lead?.want(message.tab, message.key, message.after);
    if ('retry' in message) return lead?.retryNow();
    // All else comes from the leader: it lives.
    clearTimeout(silence as number);
    silence = undefined;
    if ('asks' in message) {
      for (const reader of readers) reader.ask();
    } else if ('events' in message) {
      for (const event of message.events) for (const reader of readers) reader.take(event);
    } else if ('refused' in message) {
      off ||= message.all;
      for (const reader of readers) if (off || message.refused.includes(reader.key)) reader.refuse();
    } else if (JSON.stringify(connection) !== JSON.stringify(message.connection)) {
      connection = message.connection;
      for (const reader of readers) reader.tell(connection);
    }
  };
  const say = (message: Message) => {
    channel.postMessage(message);
    hear(message);
  };
  const ask = (key: Key, after: number | undefined) => {
    if (!known) return;
    // A leader that a browser has put to sleep does not answer, and does not give up its lock.
    silence ??= setTimeout(compete, LONGEST_SILENCE_MS, { steal: true });
    say({ tab, key, after });
  };
  const compete = (options: LockOptions) => {
    silence = undefined;
    locks
      .request(name, options, () => {
        lead = readFeed({
          open,
          identified,
          say,
          // Its own tab the leader does not survive.
          gone: (other, forget) => other !== tab && locks.request(lockOf(other), forget),
        });
        say({ asks: true });
        return never();
      })
      // Another tab took the lead; or this one is being closed, and may not ask for it.
      .catch(() => {
        if (!lead) return;
        lead.stop();
        lead = undefined;
        compete({});
      });
  };

  channel.onmessage = ({ data }) => hear(data);
  // As long as the tab lives it holds a lock of its own, by which the leader learns of its end.
  locks
    .request(lockOf(tab), () => {
      known = true;
      compete({});
      for (const reader of readers) reader.ask();
      return never();
    })
    .catch(() => hear({ refused: [], all: true }));
  globalThis.document?.addEventListener('visibilitychange', () => {
    if (!document.hidden) for (const reader of readers) reader.ask();
  });

  return {
    read(key, after) {
      if (off) return undefined;
      const listeners = new Set<(connection: Connection) => void>();
      const waiting: ServerSentEvent[] = [];
      let cursor = after;
      let asking = false;
      let lost = false;
      let ended = false;
      let refused = false;
      let wake = () => {};

      const end = () => {
        if (ended) return;
        ended = true;
        readers.delete(reader);
        if (![...readers].some((other) => other.key === key)) ask(key, undefined);
        wake();
      };

      const reader: Reader = {
        key,
        get connection() {
          return connection;
        },
        get refused() {
          return refused;
        },
        onConnection(listener) {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
        tell(now) {
          for (const listener of listeners) listener(now);
        },
        retryNow: () => say({ retry: true }),
        close() {
          waiting.length = 0;
          end();
        },
        ask() {
          asking = true;
          lost = false;
          // One event less than it has: should that be the last of the run, nothing else would ever come.
          ask(key, Math.max(0, cursor - 1));
        },
        refuse() {
          refused = true;
          end();
        },
        take(event) {
          if (key[0] === '?') {
            if (event.event === 'run.started') waiting.push(event);
          } else if (!event.id.startsWith(`${key}:`)) {
            return;
          } else {
            const seq = seqOf(event);
            const isOver = endsRun(event);
            if (seq <= cursor) {
              // The last event again: there is nothing to come. Before the cursor: this is another log than it was.
              if (isOver && seq < cursor) reader.refuse();
              else if (isOver) end();
              return;
            }
            if (seq > cursor + 1 || waiting.length >= LONGEST_WAIT) {
              lost = true;
              if (!asking && !waiting.length) reader.ask();
              return;
            }
            cursor = seq;
            asking = false;
            waiting.push(event);
            if (isOver) return end();
          }
          wake();
        },
        async *[Symbol.asyncIterator]() {
          try {
            for (;;) {
              for (let event = waiting.shift(); event; event = waiting.shift()) yield event;
              if (ended) return;
              const woken = new Promise<void>((resolve) => {
                wake = resolve;
              });
              if (lost) reader.ask();
              await woken;
            }
          } finally {
            reader.close();
          }
        },
      };
      readers.add(reader);
      reader.ask();
      return reader;
    },
  };
}
