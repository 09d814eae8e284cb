// A server with a feed of many runs, without a network; and tabs of a browser, without a browser.
import type { Entry, Event } from '../src/events.gen.js';
import { answerOf, frame, refusal, type Step } from '../src/testing/answers.js';
import { fakeFetch } from '../src/testing/scripted.js';

interface Served {
  thread: string | undefined;
  log: Entry[];
}

const hasEnded = ({ log }: Served) => /^run\.(?!started)/.test(log.at(-1)?.type ?? '');

export function feedServer({ known = true } = {}) {
  const runs = new Map<string, Served>();
  const streams = { now: 0, most: 0 };
  let wake = () => {};
  let news = Promise.resolve();
  const tell = () => {
    wake();
    news = new Promise((resolve) => {
      wake = resolve;
    });
  };
  let generation = 0;
  tell();

  const emit = (id: string, ...events: Event[]) => {
    const run = runs.get(id);
    for (const event of events) run?.log.push({ ...event, at_ms: 1, seq: run.log.length + 1 });
    tell();
  };

  function stream(cursors: Map<string, number>, threads: string[], named: boolean): Response {
    const ended: string[] = [];
    const born = generation;
    const first = new Set([...runs].filter(([, run]) => hasEnded(run)).map(([id]) => id));
    streams.now++;
    streams.most = Math.max(streams.most, streams.now);
    let over = false;
    const next = async (): Promise<Step> => {
      for (;;) {
        if (generation !== born) return { ends: 'break' };
        if (over) return { ends: 'end' };
        for (const [id, run] of runs) {
          const isJoined = run.thread !== undefined && threads.includes(run.thread) && !first.has(id);
          if (isJoined && !cursors.has(id) && !ended.includes(id)) cursors.set(id, 0);
        }
        let text = '';
        for (const [id, after] of cursors) {
          const run = runs.get(id);
          for (const { seq, ...data } of run?.log.slice(after) ?? [])
            text += frame({ id: named ? `${id}:${seq}` : seq, event: data.type, data });
          cursors.set(id, run?.log.length ?? 0);
          if (run && hasEnded(run)) {
            cursors.delete(id);
            ended.push(id);
          }
        }
        if (!cursors.size && !threads.length) {
          over = true;
          text += ': end\n';
        }
        if (text) return text;
        await news;
      }
    };
    let left = () => {
      streams.now--;
      left = () => {};
    };
    return answerOf(
      async () => {
        const step = await next();
        if (typeof step !== 'string') left();
        return step;
      },
      200,
      new Headers({ 'content-type': 'text/event-stream' }),
      () => left(),
    );
  }

  const fetch = fakeFetch(({ url, method }) => {
    const { pathname, searchParams } = new URL(url);
    const [, , id = '', what] = pathname.split('/');
    if (method === 'POST') {
      const location = { 'content-type': 'application/json', location: '/runs/posted/events' };
      return new Response('{"run_id":"posted"}', { status: 202, headers: location });
    }
    if (id === '') return known ? Response.json({ runs: [] }) : refusal(404, 'run_not_found');
    if (id !== 'feed')
      return runs.has(id) && what ? stream(new Map([[id, 0]]), [], false) : refusal(404, 'run_not_found');
    const asked = (searchParams.get('runs') ?? '').split(',').filter(Boolean);
    const cursors = new Map(
      asked.map((item) => item.split(':') as [string, string]).map(([id, after]) => [id, +after]),
    );
    if (!known || [...cursors.keys()].some((id) => !runs.has(id))) return refusal(404, 'run_not_found');
    return stream(cursors, searchParams.getAll('thread'), true);
  });

  return {
    fetch,
    streams,
    emit,
    begin(id: string, thread?: string, words = 0) {
      runs.set(id, { thread, log: [] });
      emit(id, { type: 'run.started', run_id: id, ...(thread ? { thread_id: thread } : {}) });
      this.say(id, words);
    },
    say(id: string, words: number) {
      emit(id, ...Array.from({ length: words }, (): Event => ({ type: 'text.delta', delta: 'word ' })));
    },
    end: (id: string) => emit(id, { type: 'run.completed' }),
    expire: (id: string) => runs.delete(id),
    /** Loses all connections. */
    drop() {
      generation++;
      tell();
    },
    /** Requests for the feed, each as what it asked for. */
    get feeds() {
      return fetch.asked
        .map(({ url }) => new URL(url))
        .filter(({ pathname }) => pathname === '/runs/feed')
        .map(({ searchParams }) => `${searchParams.get('runs')} ${searchParams.getAll('thread')}`.trim());
    },
  };
}

export type FeedServer = ReturnType<typeof feedServer>;

interface Request {
  tab: object;
  granted: () => Promise<unknown>;
  reject: (reason: unknown) => void;
}

/** What tabs of one browser have in common. */
export function fakeBrowser() {
  const queues = new Map<string, Request[]>();
  const channels = new Set<FakeChannel>();

  const grant = (name: string) => {
    const holder = queues.get(name)?.[0];
    holder?.granted().then(
      () => leave(name, holder),
      () => leave(name, holder),
    );
  };
  const leave = (name: string, request: Request) => {
    const queue = queues.get(name) ?? [];
    const at = queue.indexOf(request);
    if (at >= 0) queue.splice(at, 1);
    if (at === 0) grant(name);
  };
  const locksOf = (tab: object) => ({
    request(name: string, ...rest: unknown[]) {
      const callback = rest.at(-1) as () => Promise<unknown>;
      const { steal } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
      return new Promise((_, reject) => {
        const request: Request = { tab, granted: async () => callback(), reject };
        const queue = queues.get(name) ?? [];
        queues.set(name, queue);
        if (steal) queue.shift()?.reject(new DOMException('stolen', 'AbortError'));
        if (steal) queue.unshift(request);
        else queue.push(request);
        if (queue[0] === request) queueMicrotask(() => grant(name));
      });
    },
  });

  class FakeChannel {
    onmessage: ((message: { data: unknown }) => void) | null = null;
    asleep = false;
    readonly name: string;
    constructor(name: string) {
      this.name = name;
      channels.add(this);
    }
    postMessage(data: unknown) {
      if (!channels.has(this) || this.asleep) return;
      const copy = structuredClone(data);
      for (const other of channels) {
        if (other !== this && other.name === this.name) {
          setImmediate(() => {
            if (!other.asleep && channels.has(other)) other.onmessage?.({ data: copy });
          });
        }
      }
    }
  }

  return {
    locksOf,
    Channel: FakeChannel,
    close(tab: { channel: FakeChannel }) {
      channels.delete(tab.channel);
      for (const [name, queue] of queues) {
        const held = queue[0];
        const left = queue.filter((request) => request.tab !== tab);
        queues.set(name, left);
        if (left[0] !== held) grant(name);
      }
    },
    channels,
  };
}
