// What the leader of the tabs does: one stream of all runs that any tab wants, told to all of them.
import type { ServerSentEvent } from './sse.js';
import type { EventStream } from './stream.js';
import { endsRun, type Key, type Message, type SharingParts, seqOf } from './tabs.js';

export interface FeedParts extends Pick<SharingParts, 'open' | 'identified'> {
  say: (message: Message) => void;
  /** Calls back when the tab is gone. */
  gone: (tab: string, forget: () => void) => void;
}

export interface Feed {
  /** A tab wants what follows number `after`, or, without a number, nothing any more. */
  want(tab: string, key: Key, after: number | undefined): void;
  retryNow(): void;
  stop(): void;
}

interface Followed {
  /** The number that was read last. */
  after: number;
  /** Its first event, by which those who watch a thread learn of it. */
  begun?: ServerSentEvent | undefined;
  /** Its last event was read. */
  isOver?: boolean;
  /** The newest events, without a hole, for tabs that come later. */
  log: ServerSentEvent[];
}

/** How many keys a feed may have; the bound of the server. */
const MOST = 32;
/** How many events of a run a late tab can have without asking the server. */
const LONGEST_LOG = 2048;

/** How many runs that have ended are kept for late tabs. */
const MOST_OVER = 8;

const isThread = (key: Key) => key[0] === '?';

export function readFeed({ open, identified, say, gone }: FeedParts): Feed {
  const tabs = new Set<string>();
  const wanted = new Map<Key, Set<string>>();
  const runs = new Map<string, Followed>();
  /** What the server has agreed to once. */
  const proven = new Set<Key>();
  const { port1, port2 } = new MessageChannel();
  let asked: Key[] = [];
  let batch: ServerSentEvent[] = [];
  let stream: EventStream | undefined;
  /** What is wanted has changed since it was asked for. */
  let changed = false;
  let stopped = false;
  let wake = () => {};

  const threads = () => [...wanted.keys()].filter(isThread);
  const idsOf = (isOver: boolean) => [...runs].filter(([, run]) => !run.isOver === !isOver).map(([id]) => id);
  const isIdle = () => !idsOf(false).length && !threads().length;

  const change = () => {
    changed = true;
    // While it connects it is let: one request at a time, and each asks for all that came meanwhile.
    if (isIdle() || stream?.connection.state === 'open') stream?.close();
    wake();
  };

  const query = () => {
    changed = false;
    asked = idsOf(false).slice(0, MOST);
    const cursors = asked.map((id) => `${id}:${runs.get(id)?.after}`).join();
    const parameters = new URLSearchParams({ merge: '0', runs: cursors });
    for (const key of threads()) {
      asked.push(key);
      parameters.append('thread', key.slice(1));
    }
    return parameters;
  };

  const tellConnection = () => {
    const { state = 'connecting', attempt = 0, retryAt, error } = stream?.connection ?? {};
    say({ connection: { state, attempt, retryAt, error: error && String(error) } });
  };

  const refuse = (refused: Key[], all = false) => {
    for (const key of refused) {
      runs.delete(key);
      wanted.delete(key);
      proven.delete(key);
    }
    say({ refused, all });
  };

  // A hidden tab's timers are slow, a message is not: all that one chunk brought is told at once.
  port1.onmessage = () => {
    const events = batch;
    batch = [];
    say({ events });
  };

  const take = (event: ServerSentEvent) => {
    const id = event.id.slice(0, Math.max(0, event.id.indexOf(':')));
    if (!id || event.event === 'reconnect') return;
    const run: Followed = runs.get(id) ?? { after: 0, log: [] };
    runs.set(id, run);
    run.after = seqOf(event);
    if (run.after === 1) run.begun = event;
    if (run.log.push(event) > LONGEST_LOG) run.log.splice(0, LONGEST_LOG / 2);
    if (endsRun(event)) {
      run.isOver = true;
      proven.delete(id);
      for (const old of idsOf(true).slice(0, -MOST_OVER)) runs.delete(old);
    }
    if (batch.push(event) === 1) port2.postMessage(0);
  };

  const drop = (tab: string, key: Key) => {
    const holders = wanted.get(key);
    if (!holders?.delete(tab) || holders.size) return;
    wanted.delete(key);
    // What a thread brings stays, as long as any is watched.
    const needless = threads().length ? [] : idsOf(false).filter((id) => !wanted.has(id));
    for (const id of needless) runs.delete(id);
    if (needless.length || isThread(key)) change();
  };

  const follow = (id: string, after: number) => {
    const run = runs.get(id);
    const at = run ? run.log.findIndex((event) => seqOf(event) === after + 1) : -1;
    if (run && at >= 0) {
      say({ events: run.log.slice(at) });
    } else if (!run || run.isOver || after < run.after) {
      runs.set(id, { after, begun: run?.begun, log: [] });
      change();
    }
  };

  const watch = (isNew: boolean) => {
    const events: ServerSentEvent[] = [];
    let isHidden = isNew;
    for (const [id, { begun, isOver }] of runs) {
      if (isOver) continue;
      if (begun) {
        events.push(begun);
      } else {
        // Whose it is, its first event says.
        runs.set(id, { after: 0, log: [] });
        isHidden = true;
      }
    }
    say({ events });
    if (isHidden) change();
  };

  async function lead() {
    while (!stopped) {
      if (isIdle()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      try {
        const opened = open(query);
        stream = opened;
        opened.onConnection(({ state }) => {
          if (opened !== stream) return;
          tellConnection();
          if (state !== 'open') return;
          if (changed) opened.close();
          else for (const key of asked) proven.add(key);
        });
        for await (const event of opened) {
          if (changed) break;
          take(event);
        }
        // The feed has come to its end, and these did not: each is to be asked why.
        if (!changed && !stopped) refuse([...idsOf(false), ...threads()]);
      } catch {
        const isKnown =
          proven.size ||
          (await identified().then(
            () => true,
            () => false,
          ));
        const fresh = asked.filter((key) => !proven.has(key));
        // Another tab leads by now.
        if (!stopped) refuse(fresh.length ? fresh : asked, !isKnown);
      }
    }
  }
  lead();

  return {
    want(tab, key, after) {
      if (!tabs.has(tab)) {
        tabs.add(tab);
        gone(tab, () => {
          tabs.delete(tab);
          for (const held of [...wanted.keys()]) drop(tab, held);
        });
      }
      // That it was heard, too.
      tellConnection();
      if (after === undefined) return drop(tab, key);
      const holders = wanted.get(key);
      if (!holders && (wanted.size >= MOST || (!isThread(key) && !runs.has(key) && idsOf(false).length >= MOST))) {
        return say({ refused: [key], all: false });
      }
      wanted.set(key, (holders ?? new Set()).add(tab));
      if (isThread(key)) watch(!holders);
      else follow(key, after);
    },
    retryNow: () => stream?.retryNow(),
    stop() {
      stopped = true;
      stream?.close();
      port1.close();
      wake();
    },
  };
}
