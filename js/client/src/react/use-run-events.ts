import { useEffect, useState, useSyncExternalStore } from 'react';
import type { Client } from '../client.js';
import type { Entry } from '../events.gen.js';
import type { Connection } from '../machine.js';
import type { Run } from '../run.js';
import { createFrames } from './frames.js';
import { useClient } from './provider.js';

export interface RunStats {
  /** How many events came, those that are no longer kept included. */
  events: number;
  /** Their size as JSON, in bytes. */
  bytes: number;
  /** From the start of the run to its first delta, by the clock of the server. */
  ttftMs: number | undefined;
  /** Deltas per second from the first to the last, which are about tokens; by what was counted, once it was. */
  tokensPerSecond: number | undefined;
  /** Numbers that were left out. */
  gaps: number;
  reconnects: number;
}

export interface RunEvents {
  /** The newest, oldest first. */
  events: readonly Entry[];
  stats: RunStats;
  connection: Connection;
  /** Whether the run was read to its end. */
  isEnded: boolean;
  error: unknown;
}

export interface UseRunEventsOptions {
  /** Instead of the `ClientProvider`'s. */
  client?: Client | undefined;
  /** How many events are kept, by default 10,000. */
  capacity?: number | undefined;
}

const CAPACITY = 10_000;

/**
 * The log of a run as it grows, and its figures. It is read from its beginning, beside whoever else reads it.
 *
 * @throws TypeError - there is no client
 */
export function useRunEvents(run: Run | string | undefined, options: UseRunEventsOptions = {}): RunEvents {
  const client = useClient(options.client);
  const id = typeof run === 'string' ? run : run?.id;
  const { capacity = CAPACITY } = options;
  const [kept, keep] = useState(() => ({ client, id, capacity, log: createLog(client, id, capacity) }));
  let { log } = kept;
  if (kept.client !== client || kept.id !== id || kept.capacity !== capacity) {
    log = createLog(client, id, capacity);
    keep({ client, id, capacity, log });
  }
  useEffect(() => log.retain(), [log]);
  return useSyncExternalStore(log.subscribe, log.state, log.state);
}

function createLog(client: Client, id: string | undefined, capacity: number) {
  const listeners = new Set<() => void>();
  /** The newest count per provider and model. */
  const tokens = new Map<string, number>();
  let run: Run | undefined;
  let users = 0;
  let kept: Entry[] = [];
  let count = 0;
  let bytes = 0;
  let gaps = 0;
  let reconnects = 0;
  let cursor = 0;
  let deltas = 0;
  let startMs: number | undefined;
  let firstMs: number | undefined;
  let lastMs = 0;
  let isEnded = false;
  let error: unknown;
  let connection: Connection = { state: 'closed', attempt: 0 };

  const look = (): RunEvents => {
    const counted = [...tokens.values()].reduce((sum, each) => sum + each, 0);
    const seconds = firstMs === undefined ? 0 : (lastMs - firstMs) / 1000;
    return {
      events: kept.slice(-capacity),
      stats: {
        events: count,
        bytes,
        ttftMs: firstMs !== undefined && startMs !== undefined ? firstMs - startMs : undefined,
        tokensPerSecond: seconds > 0 ? (counted || deltas) / seconds : undefined,
        gaps,
        reconnects,
      },
      connection,
      isEnded,
      error,
    };
  };
  let state = look();
  const frames = createFrames(() => {
    state = look();
    for (const listener of listeners) listener();
  });

  const take = (entry: Entry) => {
    const first = entry.first ?? entry.seq;
    if (first > cursor + 1) gaps += first - cursor - 1;
    cursor = entry.seq || cursor;
    count++;
    bytes += new TextEncoder().encode(JSON.stringify(entry)).length;
    kept.push(entry);
    // Twice the room, so that not every event moves all.
    if (kept.length > 2 * capacity) kept = kept.slice(-capacity);
    if (entry.type === 'run.started') startMs = entry.at_ms;
    else if (entry.type === 'usage') tokens.set(`${entry.provider} ${entry.model}`, entry.output_tokens ?? 0);
    else if (entry.type.endsWith('.delta') && 'delta' in entry) {
      deltas += entry.seq - first + 1;
      firstMs ??= entry.at_ms;
      lastMs = entry.at_ms;
    }
  };

  const read = async (id: string) => {
    const mine = client.attach(id, { after: cursor });
    run = mine;
    const end = mine.onConnection((now) => {
      if (now.state === 'open' && connection.state !== 'open' && now.attempt > 1) reconnects++;
      connection = now;
      frames.soon();
    });
    try {
      for await (const event of mine) {
        if (event.type === 'reset') {
          kept = [];
          cursor = 0;
        } else take(event);
        frames.soon();
      }
      isEnded = run === mine;
    } catch (cause) {
      if (run === mine) error = cause;
    } finally {
      end();
      frames.now();
    }
  };

  return {
    subscribe(listener: () => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    state: () => state,
    retain() {
      users++;
      if (!run && id && !isEnded) read(id);
      // Strict mode leaves and comes again at once.
      return () => {
        users--;
        setTimeout(() => {
          if (users) return;
          run?.close();
          run = undefined;
        });
      };
    },
  };
}
