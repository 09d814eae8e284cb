// @vitest-environment jsdom
import { type ReactNode, StrictMode, useEffect, useMemo, useState, useSyncExternalStore } from 'react';
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type Client, createClient } from '../src/client.js';
import { NotAStreamError, RequestRefusedError } from '../src/errors.js';
import type { Entry, Event } from '../src/events.gen.js';
import type { Connection } from '../src/machine.js';
import { type Chat, createChat } from '../src/react/chat.js';
import { type ChatMessage, ClientProvider, type UseChatOptions, useChat, useRunEvents } from '../src/react/index.js';
import type { RunEvent } from '../src/reduce.js';
import type { Run } from '../src/run.js';
import { type RunServer, runServer } from '../src/testing/index.js';

/** Does something, and lets React and all that is ready follow. */
async function act<T>(work: () => T | Promise<T>): Promise<T> {
  const value = await flushSync(work);
  await new Promise((resolve) => setTimeout(resolve));
  return value;
}

/** A run whose log the test writes; every reader reads it from its own place. */
class FakeRun {
  readonly log: Entry[] = [];
  readonly id: string;
  readers = 0;
  cancelled = 0;
  broken: Error | undefined;
  private wakes = new Set<() => void>();

  constructor(id: string, thread = 'c1') {
    this.id = id;
    this.emit({ type: 'run.started', run_id: id, thread_id: thread });
  }

  emit(...events: Event[]) {
    for (const event of events)
      this.log.push({ ...event, seq: this.log.length + 1, at_ms: 1000 + this.log.length * 10 } as Entry);
    for (const wake of this.wakes) wake();
  }

  say(...deltas: string[]) {
    this.emit(
      ...deltas.map((delta): Event => ({ type: 'text.delta', delta, message_id: `m-${this.id}`, part_id: 'p' })),
    );
  }

  fail(error: Error) {
    this.broken = error;
    for (const wake of this.wakes) wake();
  }

  /** The log as `Client.attach` gives it. */
  reader(after = 0): Run {
    const self = this;
    let closed = false;
    let wake = () => {};
    const listeners = new Set<(connection: Connection) => void>();
    const connection = (): Connection => ({ state: closed ? 'closed' : 'open', attempt: 1 });
    return {
      id: self.id,
      get connection() {
        return connection();
      },
      onConnection(listener: (connection: Connection) => void) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      async *[Symbol.asyncIterator](): AsyncGenerator<RunEvent, void> {
        self.readers++;
        self.wakes.add(() => wake());
        try {
          for (const listener of listeners) listener(connection());
          for (let at = after; !closed; ) {
            const entry = self.log[at];
            if (entry) {
              at++;
              yield entry;
              if (/^run\.(completed|failed|cancelled|interrupted|paused)$/.test(entry.type)) return;
            } else {
              if (self.broken) throw self.broken;
              await new Promise<void>((resolve) => {
                wake = resolve;
              });
            }
          }
        } finally {
          self.readers--;
        }
      },
      async cancel() {
        self.cancelled++;
        self.emit({ type: 'run.cancelled', reason: 'user' });
        return true;
      },
      close() {
        closed = true;
        wake();
      },
      retryNow() {},
    } as unknown as Run;
  }
}

/** A client whose runs and conversations the test has at hand. */
function fakeClient() {
  const runs = new Map<string, FakeRun>();
  const bodies: unknown[] = [];
  const loads: string[] = [];
  const conversations = new Map<string, ChatMessage[]>();
  const watched = new Set<(run: FakeRun) => void>();
  let watchers = 0;
  let refusal: unknown;
  let gate: Promise<void> | undefined;
  const runOf = (id: string) => runs.get(id) ?? new FakeRun(id);
  const begin = (id: string, thread?: string) => {
    const run = new FakeRun(id, thread);
    runs.set(id, run);
    return run;
  };
  const client = {
    async run(body: unknown) {
      bodies.push(body);
      await gate;
      if (refusal) throw refusal;
      return (runs.get(`r${bodies.length}`) ?? begin(`r${bodies.length}`)).reader();
    },
    attach: (id: string, { after = 0 } = {}) => runOf(id).reader(after),
    cancel: async () => true,
    info: async (id: string) => ({ seq: runOf(id).log.length, status: 'running', text: '' }),
    conversation: (id: string) => ({
      async load() {
        loads.push(id);
        const messages = conversations.get(id);
        if (!messages) throw new RequestRefusedError(404);
        return { id, messages };
      },
      async *watch({ signal }: { signal: AbortSignal }) {
        const found: FakeRun[] = [];
        let wake = () => {};
        const tell = (run: FakeRun) => {
          found.push(run);
          wake();
        };
        watched.add(tell);
        watchers++;
        signal.addEventListener('abort', () => wake());
        try {
          while (!signal.aborted) {
            const run = found.shift();
            if (run) yield run.reader();
            else await new Promise<void>((resolve) => { wake = resolve; }); // biome-ignore format: short
          }
        } finally {
          watched.delete(tell);
          watchers--;
        }
      },
    }),
  };
  return {
    client: client as unknown as Client,
    runs,
    bodies,
    loads,
    conversations,
    begin,
    run: (n: number) => runOf(`r${n}`),
    elsewhere: (run: FakeRun) => { for (const tell of watched) tell(run); }, // biome-ignore format: short
    watchers: () => watchers,
    refuse: (error: unknown) => { refusal = error; }, // biome-ignore format: short
    hold: () => {
      let open = () => {};
      gate = new Promise((resolve) => { open = resolve; }); // biome-ignore format: short
      return () => open();
    },
  };
}

const unmounts: (() => void)[] = [];
afterEach(() => {
  for (const unmount of unmounts.splice(0)) flushSync(unmount);
  vi.unstubAllGlobals();
});

function mount(element: ReactNode) {
  const root = createRoot(document.createElement('div'));
  let isThere = true;
  const unmount = () => {
    if (isThere) root.unmount();
    isThere = false;
  };
  unmounts.push(unmount);
  flushSync(() => root.render(element));
  return { show: (next: ReactNode) => flushSync(() => root.render(next)), unmount: () => flushSync(unmount) };
}

/** Waits until it is so. */
const until = (check: () => void) => vi.waitFor(check, { timeout: 8000, interval: 2 });

type ChatNow = ReturnType<typeof useChat>;
const seen: { chat: ChatNow; renders: number } = { chat: undefined as unknown as ChatNow, renders: 0 };

function View(options: UseChatOptions) {
  seen.chat = useChat(options);
  seen.renders++;
  return <p>{seen.chat.messages.map(textOf).join('|')}</p>;
}

const textOf = ({ parts }: ChatMessage) => parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
const texts = () => seen.chat.messages.map((message) => `${message.role}: ${textOf(message)}`);
const send = (text: string) => act(() => seen.chat.send(text));
const stored = (id: string, role: string, text: string, more: Partial<ChatMessage> = {}): ChatMessage =>
  ({ id, role, parts: text ? [{ type: 'text', text }] : [], status: 'completed', ...more }) as ChatMessage;

describe('useChat', () => {
  it('sends, shows what comes, and ends', async () => {
    const fake = fakeClient();
    mount(<View client={fake.client} conversationId="c1" watch={false} />);
    expect(seen.chat.status).toBe('loading');
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(await send('hi')).toBe(true);
    expect([seen.chat.status, ...texts()]).toEqual(['submitted', 'user: hi']);
    expect(fake.bodies).toEqual([{ message: 'hi', conversation_id: 'c1' }]);
    fake.run(1).say('Hel', 'lo');
    await until(() => expect([seen.chat.status, ...texts()]).toEqual(['streaming', 'user: hi', 'assistant: Hello']));
    expect(seen.chat.connection.state).toBe('open');
    fake.run(1).emit({ type: 'suggestions', items: ['more'] }, { type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(seen.chat.messages.at(-1)).toMatchObject({ id: 'm-r1', run_id: 'r1', status: 'completed' });
    expect(seen.chat.suggestions).toEqual(['more']);
    expect(seen.chat.error).toBeUndefined();
  });

  it('takes the ids from the server after a run, and keeps what is shown if there is none', async () => {
    const fake = fakeClient();
    mount(<View client={fake.client} conversationId="c1" watch={false} />);
    await until(() => expect(seen.chat.status).toBe('ready'));
    await send('hi');
    fake.conversations.set('c1', [
      stored('u1', 'user', 'hi'),
      stored('m-r1', 'assistant', 'Hello', { run_id: 'r1', siblings: ['m-r1'] }),
    ]);
    fake.run(1).say('Hello');
    fake.run(1).emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.messages.map(({ id }) => id)).toEqual(['u1', 'm-r1']));
    expect(seen.chat.messages.at(-1)?.siblings).toEqual(['m-r1']);
  });

  it('learns the id of a new conversation, and keeps its run when the page calls it by it', async () => {
    const fake = fakeClient();
    const { show } = mount(<View client={fake.client} watch={false} />);
    await send('hi');
    expect(fake.bodies).toEqual([{ message: 'hi' }]);
    fake.run(1).say('Hel');
    await until(() => expect(seen.chat.conversationId).toBe('c1'));
    show(<View client={fake.client} conversationId="c1" watch={false} />);
    fake.run(1).say('lo');
    await until(() => expect(texts()).toEqual(['user: hi', 'assistant: Hello']));
    expect(fake.run(1).readers).toBe(1);
    show(<View client={fake.client} watch={false} />);
    await until(() => expect(fake.run(1).readers).toBe(0));
    expect(texts()).toEqual([]);
  });

  it('renders once a frame, however much comes', async () => {
    const frames: (() => void)[] = [];
    vi.stubGlobal('requestAnimationFrame', (draw: () => void) => frames.push(draw));
    vi.stubGlobal('cancelAnimationFrame', () => {});
    const fake = fakeClient();
    mount(<View client={fake.client} load={false} />);
    await send('hi');
    // One frame that never comes: the tab is hidden, and it is drawn all the same.
    fake.run(1).say(...'a long answer'.split(''));
    await until(() => expect(texts().at(-1)).toBe('assistant: a long answer'));
    const before = seen.renders;
    for (let n = 0; n < 200; n++) fake.run(1).say('.');
    for (let n = 0; n < 2000; n++) await Promise.resolve();
    expect(seen.renders).toBe(before);
    await act(async () => frames.at(-1)?.());
    expect(seen.renders).toBe(before + 1);
    expect(texts().at(-1)).toBe(`assistant: a long answer${'.'.repeat(200)}`);
  });

  it('starts one run and reads one stream in strict mode', async () => {
    const fake = fakeClient();
    fake.conversations.set('c1', []);
    mount(<StrictMode><View client={fake.client} conversationId="c1" /></StrictMode>); // biome-ignore format: short
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect([fake.loads.length, fake.watchers()]).toEqual([1, 1]);
    await send('hi');
    fake.run(1).say('Hello');
    await until(() => expect(texts().at(-1)).toBe('assistant: Hello'));
    expect([fake.bodies.length, fake.run(1).readers]).toEqual([1, 1]);
  });

  it('lets go of the conversation before when it is given another', async () => {
    const fake = fakeClient();
    fake.conversations.set('c2', [stored('u9', 'user', 'other')]);
    const { show } = mount(<View client={fake.client} conversationId="c1" />);
    await until(() => expect(seen.chat.status).toBe('ready'));
    await send('hi');
    fake.run(1).say('Hel');
    await until(() => expect(texts()).toHaveLength(2));
    show(<View client={fake.client} conversationId="c2" />);
    await until(() => expect(texts()).toEqual(['user: other']));
    await until(() => expect([fake.run(1).readers, fake.watchers()]).toEqual([0, 1]));
    fake.run(1).say('lo');
    await until(() => expect(texts()).toEqual(['user: other']));
    expect(fake.run(1).cancelled).toBe(0);
  });

  it('finds the run again that goes on, without what was written being written anew', async () => {
    const fake = fakeClient();
    const run = fake.begin('r7');
    run.say('Hel');
    fake.conversations.set('c1', [
      stored('u1', 'user', 'hi'),
      stored('m-r7', 'assistant', '', { status: 'running', run_id: 'r7' }),
    ]);
    mount(<View client={fake.client} conversationId="c1" />);
    await until(() => expect(texts()).toEqual(['user: hi', 'assistant: Hel']));
    expect(seen.chat.status).toBe('streaming');
    fake.elsewhere(run);
    run.say('lo');
    await until(() => expect(texts()).toEqual(['user: hi', 'assistant: Hello']));
    expect(run.readers).toBe(1);
  });

  it('leaves the run alone when it goes, or stops it if it is told to', async () => {
    for (const onLeave of ['detach', 'cancel'] as const) {
      const fake = fakeClient();
      const { unmount } = mount(<View client={fake.client} load={false} onLeave={onLeave} />);
      await send('hi');
      fake.run(1).say('a');
      await until(() => expect(texts()).toHaveLength(2));
      unmount();
      await until(() => expect(fake.run(1).readers).toBe(0));
      expect(fake.run(1).cancelled).toBe(onLeave === 'cancel' ? 1 : 0);
    }
  });

  it('does the same with a run that begins only after it has gone', async () => {
    for (const onLeave of ['detach', 'cancel'] as const) {
      const fake = fakeClient();
      const open = fake.hold();
      const { unmount } = mount(<View client={fake.client} load={false} onLeave={onLeave} />);
      let sent: Promise<boolean> | undefined;
      flushSync(() => {
        sent = seen.chat.send('hi');
      });
      unmount();
      await new Promise((resolve) => setTimeout(resolve));
      open();
      await sent;
      expect([fake.run(1).readers, fake.run(1).cancelled]).toEqual([0, onLeave === 'cancel' ? 1 : 0]);
    }
  });

  it('shows a run that was started elsewhere, and its question', async () => {
    const fake = fakeClient();
    fake.conversations.set('c1', []);
    mount(<View client={fake.client} conversationId="c1" />);
    await until(() => expect(fake.watchers()).toBe(1));
    fake.conversations.set('c1', [
      stored('u1', 'user', 'from there'),
      stored('m-r9', 'assistant', '', { status: 'running', run_id: 'r9' }),
    ]);
    const run = fake.begin('r9');
    fake.elsewhere(run);
    run.say('ok');
    await until(() => expect(texts()).toEqual(['user: from there', 'assistant: ok']));
  });

  it('calls onAction once, and not for what was before', async () => {
    const fake = fakeClient();
    const run = fake.begin('r5');
    run.emit({ type: 'ui.action', action: { theme: 'old' } });
    fake.conversations.set('c1', [stored('m-r5', 'assistant', '', { status: 'running', run_id: 'r5' })]);
    const actions: unknown[] = [];
    const onAction = (action: object) => actions.push(action);
    mount(<StrictMode><View client={fake.client} conversationId="c1" onAction={onAction} /></StrictMode>); // biome-ignore format: short
    run.say('a');
    await until(() => expect(texts()).toEqual(['assistant: a']));
    run.emit({ type: 'ui.action', action: { theme: 'dark' } }, { type: 'run.completed' });
    fake.conversations.delete('c1');
    await until(() => expect(seen.chat.status).toBe('ready'));
    await send('again');
    fake.run(1).emit({ type: 'ui.action', action: { theme: 'light' } });
    await until(() => expect(actions).toEqual([{ theme: 'dark' }, { theme: 'light' }]));
  });

  it('stops the run, and says so until that is confirmed', async () => {
    const fake = fakeClient();
    mount(<View client={fake.client} load={false} />);
    await send('hi');
    fake.run(1).say('a');
    await until(() => expect(seen.chat.status).toBe('streaming'));
    const cancel = vi.spyOn(fake.run(1), 'emit').mockImplementation(() => {});
    await act(() => seen.chat.stop());
    expect(seen.chat.status).toBe('stopping');
    cancel.mockRestore();
    fake.run(1).emit({ type: 'run.cancelled', reason: 'user' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(seen.chat.messages.at(-1)).toMatchObject({ status: 'cancelled', failure: { code: 'user' } });
    expect(textOf(seen.chat.messages.at(-1) as ChatMessage)).toBe('a');
  });

  it('stops a run that has not begun as soon as it does', async () => {
    const fake = fakeClient();
    const open = fake.hold();
    mount(<View client={fake.client} load={false} />);
    let sent: Promise<boolean> | undefined;
    flushSync(() => {
      sent = seen.chat.send('hi');
    });
    await act(() => seen.chat.stop());
    expect(seen.chat.status).toBe('stopping');
    open();
    await act(async () => expect(await sent).toBe(true));
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(fake.run(1).cancelled).toBe(1);
  });

  it('gives the message back if the server does not take it', async () => {
    const fake = fakeClient();
    fake.refuse(new RequestRefusedError(429, 'Slow down'));
    mount(<View client={fake.client} load={false} />);
    expect(await send('hi')).toBe(false);
    expect(seen.chat.messages).toEqual([]);
    expect([seen.chat.status, (seen.chat.error as Error).message]).toEqual(['ready', 'Slow down']);
    fake.refuse(undefined);
    expect(await send('hi')).toBe(true);
    expect(seen.chat.error).toBeUndefined();
    await expect(seen.chat.send('at once')).rejects.toThrow(/stop\(\) it/);
  });

  it('tells of a run that failed in its message, even if it said nothing', async () => {
    const fake = fakeClient();
    mount(<View client={fake.client} load={false} />);
    await send('hi');
    fake.run(1).emit({ type: 'run.failed', code: 'error', message: 'Sorry' });
    await until(() => expect(seen.chat.messages).toHaveLength(2));
    expect(seen.chat.messages[1]).toMatchObject({
      role: 'assistant',
      status: 'failed',
      failure: { code: 'error', message: 'Sorry' },
    });
    expect(seen.chat.error).toBeUndefined();
  });

  it('keeps what was read of a run that was lost, and goes on with it', async () => {
    const fake = fakeClient();
    mount(<View client={fake.client} load={false} />);
    await send('hi');
    fake.run(1).say('Hel');
    await until(() => expect(texts()).toHaveLength(2));
    fake.run(1).fail(new Error('gone'));
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect([(seen.chat.error as Error).message, ...texts()]).toEqual(['gone', 'user: hi', 'assistant: Hel']);
    fake.run(1).broken = undefined;
    flushSync(() => seen.chat.attach());
    fake.run(1).say('lo');
    await until(() => expect(texts()).toEqual(['user: hi', 'assistant: Hello']));
    expect(seen.chat.error).toBeUndefined();
  });

  it('comes back while a message is on its way, though an earlier run was lost', async () => {
    const fake = fakeClient();
    const rejected: unknown[] = [];
    const note = (reason: unknown) => rejected.push(reason);
    process.on('unhandledRejection', note);
    let show: (isThere: boolean) => void = () => {};
    function Page() {
      const [isThere, setThere] = useState(true);
      show = (there) => flushSync(() => setThere(there));
      const chat = useMemo(() => createChat(fake.client, () => ({ conversationId: 'c1', load: false })), []);
      useEffect(() => (isThere ? chat.retain() : undefined), [chat, isThere]);
      useSyncExternalStore(chat.subscribe, chat.state);
      kept = chat;
      return null;
    }
    let kept: Chat | undefined;
    mount(<Page />);
    await act(() => kept?.send('hi'));
    fake.run(1).fail(new Error('gone'));
    await until(() => expect(kept?.state().error).toBeTruthy());
    const open = fake.hold();
    const sent = kept?.send('again');
    show(false);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(fake.watchers()).toBe(0);
    show(true);
    await new Promise((resolve) => setTimeout(resolve, 5));
    open();
    await sent;

    await until(() => expect(kept?.state().run?.id).toBe('r2'));
    process.off('unhandledRejection', note);
    expect(rejected).toEqual([]);
    expect(fake.watchers()).toBe(1);
  });

  it('has an answer written anew, and says something else', async () => {
    const fake = fakeClient();
    const before = [
      stored('u1', 'user', 'one'),
      stored('a1', 'assistant', 'first', { run_id: 'r0' }),
      stored('u2', 'user', 'two'),
      stored('a2', 'assistant', 'second', { run_id: 'r00' }),
    ];
    mount(<View client={fake.client} conversationId="c1" initialMessages={before} watch={false} />);
    expect(fake.loads).toEqual([]);
    await act(() => seen.chat.regenerate());
    expect([fake.bodies.at(-1), texts()]).toEqual([
      { regenerate: 'u2', conversation_id: 'c1' },
      ['user: one', 'assistant: first', 'user: two'],
    ]);
    fake.run(1).emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    await act(() => seen.chat.edit('u2', 'deux'));
    expect([fake.bodies.at(-1), texts()]).toEqual([
      { message: 'deux', parent_id: 'a1', conversation_id: 'c1' },
      ['user: one', 'assistant: first', 'user: deux'],
    ]);
    fake.run(2).emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    fake.conversations.set('c1', [
      stored('u1', 'user', 'one'),
      stored('a1', 'assistant', 'first'),
      stored('u3', 'user', 'deux', { parent_id: 'a1' }),
    ]);
    await act(() => seen.chat.regenerate());
    expect(fake.bodies.at(-1)).toEqual({ regenerate: 'u3', conversation_id: 'c1' });
    fake.run(3).emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    await act(() => seen.chat.edit('u1', 'un'));
    expect(fake.bodies.at(-1)).toEqual({ message: 'un', parent_id: '', conversation_id: 'c1' });
  });

  it('writes the body that another server takes', async () => {
    const fake = fakeClient();
    const { show } = mount(<View client={fake.client} load={false} body={{ branch_id: 'b' }} />);
    await send('hi');
    expect(fake.bodies.at(-1)).toEqual({ message: 'hi', branch_id: 'b' });
    fake.run(1).emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    show(
      <View client={fake.client} load={false} body={({ message, messages }) => ({ q: message, n: messages.length })} />,
    );
    await send('yo');
    expect(fake.bodies.at(-1)).toEqual({ q: 'yo', n: 2 });
  });

  it('tells why a conversation cannot be read, but not that there is none', async () => {
    for (const [failure, isTold] of [
      [new RequestRefusedError(404), false],
      [new NotAStreamError('text/html'), false],
      [new RequestRefusedError(403, 'No'), true],
    ] as const) {
      const fake = fakeClient();
      vi.spyOn(fake.client, 'conversation').mockReturnValue({
        ...fake.client.conversation('c1'),
        load: () => Promise.reject(failure),
      });
      mount(<View client={fake.client} conversationId="c1" watch={false} />);
      await until(() => expect(seen.chat.status).toBe('ready'));
      expect(seen.chat.error).toBe(isTold ? failure : undefined);
    }
  });

  it('says what to do without a client', () => {
    expect(() => renderToString(<View />)).toThrow(/createClient\(\)|<ClientProvider>/);
    const fake = fakeClient();
    expect(renderToString(<ClientProvider value={fake.client}><View initialMessages={[stored('u', 'user', 'x')]} /></ClientProvider>)).toContain('x'); // biome-ignore format: short
  });
});

const now: { log: ReturnType<typeof useRunEvents> } = { log: undefined as never };
function Log({ id, client, capacity }: { id: string; client: Client; capacity?: number }) {
  now.log = useRunEvents(id, { client, capacity });
  return null;
}

describe('useRunEvents', () => {
  it('keeps the newest events, and figures of all', async () => {
    const fake = fakeClient();
    const run = fake.begin('r1');
    const { unmount } = mount(<StrictMode><Log id="r1" client={fake.client} capacity={4} /></StrictMode>); // biome-ignore format: short
    run.say(...'abcdefghijk'.split(''));
    await until(() => expect(now.log.stats.events).toBe(12));
    expect(run.readers).toBe(1);
    expect(now.log.events.map(({ seq }) => seq)).toEqual([9, 10, 11, 12]);
    expect(now.log.stats).toMatchObject({ ttftMs: 10, tokensPerSecond: 110, gaps: 0, reconnects: 0 });
    expect(now.log.stats.bytes).toBe(run.log.reduce((sum, entry) => sum + JSON.stringify(entry).length, 0));
    run.emit({ type: 'usage', output_tokens: 50 }, { type: 'run.completed' });
    await until(() => expect(now.log.isEnded).toBe(true));
    expect(now.log.stats.tokensPerSecond).toBe(500);
    unmount();
    await until(() => expect(run.readers).toBe(0));
  });

  it('follows another run when it is given one, and tells what went wrong', async () => {
    const fake = fakeClient();
    const [one, two] = [fake.begin('r1'), fake.begin('r2')];
    const { show } = mount(<Log id="r1" client={fake.client} />);
    await until(() => expect(one.readers).toBe(1));
    show(<Log id="r2" client={fake.client} />);
    await until(() => expect([one.readers, two.readers]).toEqual([0, 1]));
    two.fail(new Error('gone'));
    await until(() => expect((now.log.error as Error)?.message).toBe('gone'));
  });
});

describe('with a real client', () => {
  const said = (delta: string): Event => ({ type: 'text.delta', delta, message_id: 'm', part_id: 'p' });
  const clientOf = (server: RunServer) =>
    createClient({ baseUrl: 'http://test', fetch: server.fetch, backoffMs: 1, maxBackoffMs: 1, share: 'off' });

  it('shows all of an answer whose connection breaks again and again', async () => {
    const server = runServer({ events: [...'Hello world'].map(said), cuts: [2, 3, 1, 4] });
    mount(<StrictMode><View client={clientOf(server)} watch={false} /></StrictMode>); // biome-ignore format: short
    await send('hi');
    await until(() => expect(texts()).toEqual(['user: hi', 'assistant: Hello world']));
    server.emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(seen.chat.messages.at(-1)?.status).toBe('completed');
    expect(server.fetch.asked.filter(({ method }) => method === 'POST')).toHaveLength(1);
    expect(server.readers).toBe(0);
  });

  it('stops the run at the server, and shows what was said until then', async () => {
    const server = runServer({ events: [said('Hel')] });
    mount(<View client={clientOf(server)} load={false} watch={false} />);
    await send('hi');
    await until(() => expect(texts()).toHaveLength(2));
    await act(() => seen.chat.stop());
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(seen.chat.messages.at(-1)).toMatchObject({ status: 'cancelled', parts: [{ text: 'Hel' }] });
  });

  it('leaves the run when the view goes, and nothing is asked after that', async () => {
    const server = runServer({ events: [said('Hel')] });
    const { unmount } = mount(<View client={clientOf(server)} load={false} watch={false} />);
    await send('hi');
    await until(() => expect(server.readers).toBe(1));
    unmount();
    await until(() => expect(server.readers).toBe(0));
    const { length } = server.fetch.asked;
    server.emit(said('lo'), { type: 'run.completed' });
    await until(() => expect(server.fetch.asked).toHaveLength(length));
  });

  it('goes without conversations and feeds where the server has none', async () => {
    const server = runServer({ events: [said('Hello'), { type: 'run.completed' }] });
    mount(<View client={clientOf(server)} conversationId="c1" />);
    await until(() => expect(seen.chat.status).toBe('ready'));
    await send('hi');
    await until(() => expect(texts()).toEqual(['user: hi', 'assistant: Hello']));
    expect(seen.chat.error).toBeUndefined();
  });

  it('does not act on what was before it came', async () => {
    const server = runServer({ events: [{ type: 'ui.action', action: { theme: 'old' } }] });
    const actions: unknown[] = [];
    mount(<View client={clientOf(server)} load={false} onAction={(action) => actions.push(action)} />);
    flushSync(() => seen.chat.attach(server.runId));
    await until(() => expect(server.readers).toBe(1));
    server.emit({ type: 'ui.action', action: { theme: 'dark' } });
    server.drop();
    server.emit({ type: 'run.completed' });
    await until(() => expect(seen.chat.status).toBe('ready'));
    expect(actions).toEqual([{ theme: 'dark' }]);
  });

  it('counts what the connection has lost and got again', async () => {
    const server = runServer({ events: [...'Hello'].map(said), cuts: [2, 2] });
    mount(<Log id={server.runId} client={clientOf(server)} />);
    await until(() => expect(now.log.stats).toMatchObject({ events: 6, gaps: 0, reconnects: 2 }));
    server.emit({ type: 'run.completed' });
    await until(() => expect(now.log.isEnded).toBe(true));
  });
});
