import { afterEach, describe, expect, it, vi } from 'vitest';
import { readFeed } from '../src/feed.js';
import { createClient } from '../src/index.js';
import { createSharing, type Sharing } from '../src/sharing.js';
import { openStream } from '../src/stream.js';
import type { Message } from '../src/tabs.js';
import { refusal } from '../src/testing/index.js';
import { type FeedServer, fakeBrowser, feedServer } from './feed-server.js';

const PACE = { backoffMs: 1, maxBackoffMs: 1 };

/** A busy machine takes its time. */
const until = (check: () => void) => vi.waitFor(check, 8000);

type Browser = ReturnType<typeof fakeBrowser>;

class Tab {
  readonly sharing: Sharing;
  readonly channel: InstanceType<Browser['Channel']>;
  /** The tab's own requests end with it. */
  private readonly closing = new AbortController();
  private readonly browser: Browser;

  constructor(browser: Browser, server: FeedServer) {
    this.browser = browser;
    vi.stubGlobal('BroadcastChannel', browser.Channel);
    vi.stubGlobal('navigator', { locks: browser.locksOf(this) });
    this.sharing = createSharing({
      name: 'test',
      open: (query) =>
        openStream('http://test/runs/feed', {
          ...PACE,
          dialect: 'raw',
          fetch: (url, init) => {
            const { signal } = this.closing;
            if (signal.aborted) return new Promise(() => {});
            return server.fetch(`${url}?${query()}`, {
              ...init,
              signal: AbortSignal.any([signal, init?.signal as AbortSignal]),
            });
          },
        }),
      identified: async () => {
        if (!(await server.fetch('http://test/runs/?thread=-')).ok) throw new Error('none');
      },
    });
    this.channel = [...browser.channels].at(-1) as InstanceType<Browser['Channel']>;
  }

  read(key: string, after = 0) {
    const source = this.sharing.read(key, after);
    const seqs: number[] = [];
    const ids: string[] = [];
    const state = { source, seqs, ids, over: false };
    (async () => {
      for await (const { id } of source ?? []) {
        ids.push(id.split(':')[0] ?? '');
        seqs.push(Number(id.split(':')[1]));
      }
      state.over = true;
    })();
    return state;
  }

  close() {
    this.browser.close(this);
    this.closing.abort();
  }
}

const upto = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, at) => first + at);

const open = (count: number, options = {}) => {
  const server = feedServer(options);
  const browser = fakeBrowser();
  const tabs = Array.from({ length: count }, () => new Tab(browser, server));
  return { server, browser, tabs: tabs as [Tab, Tab, Tab, ...Tab[]] };
};

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('tabs that share', () => {
  it('read one run over one connection', async () => {
    const { server, tabs } = open(12);
    server.begin('a', undefined, 10);
    const reads = tabs.map((tab) => tab.read('a'));
    await until(() => expect(reads.map(({ seqs }) => seqs.length)).toEqual(reads.map(() => 11)));

    server.say('a', 500);
    server.end('a');

    await until(() => expect(reads.every(({ over }) => over)).toBe(true));
    for (const { seqs } of reads) expect(seqs).toEqual(upto(512));
    expect(server.streams.most).toBe(1);
    expect(server.feeds).toEqual(['a:0']);
    await until(() => expect(server.streams.now).toBe(0));
  });

  it('ask for all that any of them wants, from where it was read', async () => {
    const { server, tabs } = open(3);
    for (const id of ['a', 'b', 'c']) server.begin(id, `thread of ${id}`, 4);
    const a = tabs[0].read('a');
    await until(() => expect(a.seqs).toHaveLength(5));
    const b = tabs[1].read('b', 2);
    await until(() => expect(b.seqs).toEqual([3, 4, 5]));
    const c = tabs[2].read('?thread of c');
    await until(() => expect(c.ids).toContain('c'));

    for (const id of ['a', 'b', 'c']) server.end(id);
    await until(() => expect(a.over && b.over).toBe(true));

    expect([a.seqs, b.seqs]).toEqual([upto(6), upto(6, 3)]);
    expect(server.feeds.at(0)).toBe('a:0');
    expect(server.feeds.at(1)).toBe('a:5,b:1');
    expect(server.streams.most).toBe(1);
  });

  it('go on where a lost connection left them', async () => {
    const { server, tabs } = open(2);
    server.begin('a', undefined, 4);
    const reads = tabs.map((tab) => tab.read('a'));
    await until(() => expect(reads[1]?.seqs).toHaveLength(5));

    server.drop();
    server.say('a', 3);
    server.end('a');

    await until(() => expect(reads.every(({ over }) => over)).toBe(true));
    expect(reads.map(({ seqs }) => seqs)).toEqual([upto(9), upto(9)]);
    expect(server.feeds).toEqual(['a:0', 'a:5']);
  });

  it('have no gap and nothing twice when the one that reads is closed', async () => {
    const { server, tabs } = open(4);
    server.begin('a', undefined, 10);
    const reads = tabs.map((tab) => tab.read('a'));
    for (const [at, tab] of tabs.slice(0, 3).entries()) {
      server.say('a', 10);
      // Not all of it has been told when the tab is closed.
      await until(() => expect(reads[at]?.seqs.length).toBeGreaterThan(at * 10 + 5));
      tab.close();
      server.say('a', 10);
    }
    server.end('a');

    await until(() => expect(reads[3]?.over).toBe(true));
    expect(reads[3]?.seqs).toEqual(upto(72));
  });

  it('take the lead from one that a browser has put to sleep', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { server, tabs } = open(2);
    server.begin('a', undefined, 2);
    const reads = tabs.map((tab) => tab.read('a'));
    await until(() => expect(reads[1]?.seqs).toHaveLength(3));
    tabs[0].channel.asleep = true;
    server.begin('b', undefined, 2);
    const b = tabs[1].read('b');

    await vi.advanceTimersByTimeAsync(6000);
    await until(() => expect(b.seqs).toHaveLength(3));
    server.end('a');
    server.end('b');

    await until(() => expect(reads[1]?.over && b.over).toBe(true));
    expect([reads[1]?.seqs, b.seqs]).toEqual([upto(4), upto(4)]);
  });

  it('forget what only a closed tab wanted, and what nobody reads any more', async () => {
    const { server, tabs } = open(3);
    for (const id of ['a', 'b', 'c']) server.begin(id);
    const reads = ['a', 'b', 'c'].map((id, at) => tabs[at]?.read(id));
    await until(() => expect(reads.map((read) => read?.seqs.length)).toEqual([1, 1, 1]));

    tabs[1].close();
    await until(() => expect(server.feeds.at(-1)).toBe('a:1,c:1'));
    reads[2]?.source?.close();
    await until(() => expect(server.feeds.at(-1)).toBe('a:1'));
    reads[0]?.source?.close();

    await until(() => expect([server.streams.now, reads[0]?.over]).toEqual([0, true]));
  });
});

describe('a tab that comes late', () => {
  it('has what was read from the tab that reads', async () => {
    const { server, tabs } = open(2);
    server.begin('a', 't', 100);
    const first = tabs[0].read('a');
    await until(() => expect(first.seqs).toHaveLength(101));

    const [whole, rest] = [tabs[1].read('a'), tabs[1].read('a', 90)];
    await until(() => expect([whole.seqs.length, rest.seqs.length]).toEqual([101, 11]));
    server.end('a');

    await until(() => expect(whole.over && rest.over).toBe(true));
    expect([first.seqs, whole.seqs, rest.seqs]).toEqual([upto(102), upto(102), upto(102, 91)]);
    expect(server.feeds).toEqual(['a:0']);
  });

  it('is asked for anew what was read too long ago', async () => {
    const { server, tabs } = open(2);
    server.begin('a', 't', 5000);
    const first = tabs[0].read('a', 10);
    await until(() => expect(first.seqs).toHaveLength(4991));

    const whole = tabs[1].read('a');
    await until(() => expect(whole.seqs).toHaveLength(5001));
    server.end('a');

    await until(() => expect(whole.over && first.over).toBe(true));
    expect([first.seqs, whole.seqs]).toEqual([upto(5002, 11), upto(5002)]);
    expect(server.feeds).toEqual(['a:9', 'a:0']);
  });

  it('learns of a run that goes on in its thread, though its beginning was never read', async () => {
    const { server, tabs } = open(3);
    server.begin('a', 't', 5);
    const first = tabs[0].read('a', 4);
    await until(() => expect(first.seqs).toEqual([5, 6]));

    const [watch, again] = [tabs[1].read('?t'), tabs[2].read('?t')];

    await until(() => expect([watch.ids, again.ids].map(([id]) => id)).toEqual(['a', 'a']));
    expect(first.seqs).toEqual([5, 6]);
    server.begin('b', 't');
    await until(() => expect(new Set(again.ids)).toEqual(new Set(['a', 'b'])));
    const b = tabs[2].read('b');
    server.end('b');
    await until(() => expect(b.over).toBe(true));
    expect(b.seqs).toEqual([1, 2]);
  });

  it('comes to the end of a run that it has read, or that is not the one it was', async () => {
    const { server, tabs } = open(2);
    server.begin('a', undefined, 3);
    server.end('a');
    server.begin('live');
    const live = tabs[0].read('?any');

    const [ended, ahead] = [tabs[1].read('a', 5), tabs[1].read('a', 50)];

    await until(() => expect(ended.over && ahead.over).toBe(true));
    expect([ended.seqs, ended.source?.refused]).toEqual([[], false]);
    expect([ahead.seqs, ahead.source?.refused]).toEqual([[], true]);
    expect(live.over).toBe(false);
  });
});

describe('what cannot be shared', () => {
  it('is one run, and the others are read on', async () => {
    const { server, tabs } = open(2);
    server.begin('a');
    const a = tabs[0].read('a');
    await until(() => expect(a.seqs).toHaveLength(1));

    const unknown = tabs[1].read('unknown');
    await until(() => expect(unknown.over).toBe(true));
    server.end('a');

    await until(() => expect(a.over).toBe(true));
    expect([unknown.source?.refused, a.source?.refused]).toEqual([true, false]);
    expect(tabs[0].sharing.read('b', 0)).toBeDefined();
  });

  it('is a thread whose feed ends though nothing has', async () => {
    const { server, tabs } = open(1);
    let asked = 0;
    vi.spyOn(server, 'fetch').mockImplementation(async () => {
      // What goes on in a loop would never let a test end.
      if (++asked > 20) return new Promise<never>(() => {});
      return new Response(null, { status: 204 });
    });

    const read = tabs[0].read('?thread');

    await until(() => expect(read.over).toBe(true));
    expect(read.source?.refused).toBe(true);
    expect(asked).toBe(1);
  });

  it('is nothing that a tab says that leads no more', async () => {
    let refuseIdentity: (reason: unknown) => void = () => {};
    const identified = vi.fn(
      () =>
        new Promise<unknown>((_, reject) => {
          refuseIdentity = reject;
        }),
    );
    const said: Message[] = [];
    const feed = readFeed({
      open: (query) =>
        openStream('http://test/feed', { dialect: 'raw', fetch: async () => refusal(query().has('runs') ? 403 : 400) }),
      identified,
      say: (message) => said.push(message),
      gone: () => {},
    });
    feed.want('tab', 'a', 0);
    await until(() => expect(identified).toHaveBeenCalled());

    feed.stop();
    refuseIdentity(new Error('offline'));
    await new Promise((resolve) => setTimeout(resolve));

    expect(said.filter((message) => 'refused' in message)).toEqual([]);
  });

  it('is everything where the server knows no identities', async () => {
    const { server, tabs } = open(2, { known: false });
    server.begin('a');

    const reads = [tabs[0].read('a'), tabs[1].read('?t')];

    await until(() => expect(reads.every(({ over, source }) => over && source?.refused)).toBe(true));
    expect(tabs.map((tab) => tab.sharing.read('a', 0))).toEqual([undefined, undefined]);
  });

  it('is more than a feed carries', async () => {
    const { server, tabs } = open(2);
    const ids = upto(40).map((number) => `r${number}`);
    for (const id of ids) server.begin(id);

    const reads = ids.map((id, at) => tabs[at % 2 ? 1 : 0].read(id));

    await until(() => expect(reads.filter(({ source }) => source?.refused)).toHaveLength(8));
    await until(() => expect(reads.filter(({ seqs }) => seqs.length === 1)).toHaveLength(32));
  });
});

describe('a reader in a tab', () => {
  it('that is slow has all of it, and keeps no more than it may', async () => {
    const { server, tabs } = open(1);
    server.begin('a', undefined, 9000);
    server.end('a');
    const source = tabs[0].sharing.read('a', 0);
    const fast = tabs[0].read('a');
    const seqs: number[] = [];
    // All of it has been told before the slow one takes the first.
    await until(() => expect(fast.over).toBe(true));

    for await (const { id } of source ?? []) seqs.push(Number(id.split(':')[1]));

    expect(seqs).toEqual(upto(9002));
    expect(fast.seqs).toEqual(upto(9002));
  });

  it('is told how the connection is, and may end its wait', async () => {
    const { server, tabs } = open(2);
    server.begin('a');
    const read = tabs[1].read('a');
    const states: string[] = [];
    const leave = read.source?.onConnection(({ state }) => states.push(state));
    await until(() => expect(states).toContain('open'));

    server.drop();
    await until(() => expect(states).toContain('waiting'));
    read.source?.retryNow();
    await until(() => expect(read.source?.connection.state).toBe('open'));
    leave?.();
    server.end('a');
    await until(() => expect(read.over).toBe(true));
  });
});

describe('a client in a browser', () => {
  const inBrowser = (server: FeedServer, options = {}) => {
    const browser = fakeBrowser();
    vi.stubGlobal('BroadcastChannel', browser.Channel);
    vi.stubGlobal('navigator', { locks: browser.locksOf({}) });
    vi.stubGlobal('location', { href: 'http://test/page' });
    return createClient({ ...PACE, fetch: server.fetch, ...options });
  };

  it('starts a run without reading it, and reads it with the others', async () => {
    const server = feedServer();
    server.begin('posted', undefined, 2);
    server.end('posted');

    const run = await inBrowser(server).run({});
    expect(await run.text()).toBe('word word ');

    expect(server.fetch.asked.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /chat',
      'GET /runs/feed?merge=0&runs=posted%3A0',
    ]);
    expect(server.fetch.asked[0]?.headers.get('prefer')).toBe('respond-async');
  });

  it('reads on its own what cannot be shared', async () => {
    const server = feedServer({ known: false });
    server.begin('a', undefined, 2);
    server.end('a');
    const client = inBrowser(server);

    expect(await client.attach('a').text()).toBe('word word ');
    expect(await client.attach('a').text()).toBe('word word ');

    expect(server.fetch.asked.map(({ path }) => path)).toEqual([
      '/runs/feed?merge=0&runs=a%3A0',
      '/runs/?thread=-',
      '/runs/a/events',
      '/runs/a/events',
    ]);
    await expect(client.conversation('t').watch().next()).rejects.toMatchObject({ status: 404 });
  });

  it('watches a conversation with the others', async () => {
    const server = feedServer();
    const client = inBrowser(server);
    const leaving = new AbortController();
    const texts: string[] = [];
    server.begin('a', 't', 1);

    for await (const run of client.conversation('t').watch({ signal: leaving.signal })) {
      server.end(run.id);
      texts.push(await run.text());
      if (texts.length === 1) server.begin('b', 't', 2);
      else leaving.abort();
    }

    expect(texts).toEqual(['word ', 'word word ']);
    await until(() => expect(server.streams.now).toBe(0));
  });

  it.each([{ share: 'off' }, { headers: { authorization: 'Bearer t' } }])('does not share with %j', async (options) => {
    const server = feedServer();
    server.begin('a', undefined, 1);
    server.end('a');

    expect(await inBrowser(server, options).attach('a').text()).toBe('word ');
    expect(server.fetch.asked.map(({ path }) => path)).toEqual(['/runs/a/events']);
  });

  it('shares in the name of who reads', async () => {
    const server = feedServer();
    server.begin('a', undefined, 1);
    server.end('a');
    const headers = { authorization: 'Bearer t' };

    expect(await inBrowser(server, { headers, share: 'ada' }).attach('a').text()).toBe('word ');
    expect(server.feeds).toEqual(['a:0']);
  });
});
