import type { Client } from '../client.js';
import type { RequestRefusedError } from '../errors.js';
import type { Usage } from '../events.gen.js';
import type { Connection } from '../machine.js';
import { reduce, whole } from '../reduce.js';
import type { Failure, Message, Reduced, RunDocument } from '../reduced.gen.js';
import type { Run } from '../run.js';
import { createFrames } from './frames.js';

/** A message as it is shown. What the server has written down has more fields than what is being written. */
export interface ChatMessage extends Message {
  /** How its run stands. */
  status?: Reduced['status'];
  run_id?: string;
  /** Why its run is not completed. */
  failure?: Failure;
  /** The message that it follows. */
  parent_id?: string;
  /** The ids of all that follow the same message, itself included. */
  siblings?: string[];
  suggestions?: string[];
  usage?: Usage[];
  model?: string;
  created_at_ms?: number;
  finished_at_ms?: number;
}

/** What is asked of the server; `body` makes the body of the request of it. */
export interface ChatRequest {
  conversationId: string | undefined;
  /** What the user says. */
  message?: string | undefined;
  /** The message that it follows, if it takes the place of another; empty for the first one. */
  parentId?: string | undefined;
  /** Instead of `message`: the user's message that is to be answered anew. */
  regenerate?: string | undefined;
  /** All that is shown, this message included. */
  messages: readonly ChatMessage[];
}

export interface ChatOptions {
  /** The conversation; a new one without it, whose id the server gives. */
  conversationId?: string | undefined;
  /** Shown at once, instead of what the server would be asked for. */
  initialMessages?: readonly ChatMessage[] | undefined;
  /** Called once for each action of a run, but not for those of the time before one came to it. */
  onAction?: ((action: Record<string, unknown>, run: Run) => void) | undefined;
  /** The body of a request, for servers that take another; or fields to be added to it. */
  body?: ((request: ChatRequest) => unknown) | object | undefined;
  /** What becomes of the run that is being read when the view goes: it goes on (`detach`, the default), or is stopped. */
  onLeave?: 'detach' | 'cancel' | undefined;
  /** Whether the server keeps conversations: what it has is then read, first and after each run. By default it does. */
  load?: boolean | undefined;
  /** Whether to follow runs that are started elsewhere. By default yes; it takes a server that knows its users. */
  watch?: boolean | undefined;
}

export interface ChatState {
  /** Given, or learned from the server with the first run. */
  conversationId: string | undefined;
  messages: readonly ChatMessage[];
  /** `submitted`: asked, and nothing was said yet. `stopping`: until the server has confirmed that the run is over. */
  status: 'loading' | 'ready' | 'submitted' | 'streaming' | 'stopping';
  /** The run that is being read. */
  run: Run | undefined;
  /** All that the newest run amounts to: its status line, thoughts, progress, sources, usage … */
  reduced: Reduced | undefined;
  connection: Connection;
  /** What else to ask. */
  suggestions: readonly string[];
  /** What could not be sent, read or stopped. That a run failed is told by its message. */
  error: unknown;
}

export interface ChatActions {
  /**
   * Says something; whether the server has taken it. If not, `error` says why and the message is gone again.
   *
   * @throws TypeError - an answer is being written
   */
  send(text: string): Promise<boolean>;
  /** Asks the server to stop the run. */
  stop(): Promise<void>;
  /**
   * Has an answer written anew, by default the last, beside the one that is there. As `send`.
   *
   * @param messageId - Of the answer, or of the user's message.
   */
  regenerate(messageId?: string): Promise<boolean>;
  /** Says something else instead of an earlier message of the user's, and beside it. As `send`. */
  edit(messageId: string, text: string): Promise<boolean>;
  /** Follows a run, by default the one that was lost last. */
  attach(runId?: string): void;
  /** Ends the wait before the next attempt to connect. */
  retryNow(): void;
  /** Reads the conversation anew, unless it is being written. */
  reload(): Promise<void>;
}

export interface Chat extends ChatActions {
  subscribe(listener: () => void): () => void;
  state(): ChatState;
  /** Begins to read; the last one to call what it returns ends that. */
  retain(): () => void;
}

const CLOSED: Connection = { state: 'closed', attempt: 0 };
const LOCAL = 'local:';

export function createChat(client: Client, options: () => ChatOptions): Chat {
  let { conversationId, initialMessages: history = [] } = options();
  let run: Run | undefined;
  let live: Reduced | undefined;
  let error: unknown;
  let connection = CLOSED;
  /** What goes on beside a run. */
  let doing: 'loading' | 'submitted' | undefined;
  let stops = false;
  let scope: AbortController | undefined;
  let users = 0;
  let locals = 0;
  let watching = false;
  /** The run that was not read to its end. */
  let lost: string | undefined;
  /** A run from elsewhere, for when this one is over. */
  let queued: Run | undefined;
  const followed = new Set<string>();
  const listeners = new Set<() => void>();

  const shown = (): readonly ChatMessage[] => {
    if (!run || !live) return history;
    const { status, failure } = live;
    const { id } = run;
    const messages: ChatMessage[] = [...live.messages];
    if (!messages.length && failure) messages.push({ id, role: 'assistant', parts: [] });
    const fresh = messages.map((message, index) => ({
      ...history.find((stored) => message.id && stored.id === message.id),
      ...message,
      run_id: id,
      status,
      ...(failure && index === messages.length - 1 && { failure }),
    }));
    // What the server has of an answer that is being written stands for it until more is known.
    const isOld = (message: ChatMessage) => !fresh.length || message.role === 'user' || message.run_id !== id;
    return [...history.filter((stored) => isOld(stored) && !fresh.some((each) => each.id === stored.id)), ...fresh];
  };

  const status = (): ChatState['status'] => {
    if (run) return stops ? 'stopping' : live?.messages.length ? 'streaming' : 'submitted';
    return doing ? (stops ? 'stopping' : doing) : 'ready';
  };

  const look = (): ChatState => {
    const messages = shown();
    const said = live?.suggestions.length ? live.suggestions : messages.at(-1)?.suggestions;
    return {
      conversationId,
      messages,
      status: status(),
      run,
      reduced: live,
      connection,
      suggestions: (!run && said) || [],
      error,
    };
  };
  let state = look();
  const frames = createFrames(() => {
    state = look();
    for (const listener of listeners) listener();
  });
  const tell = frames.now;

  const isFree = () => !run && doing !== 'submitted';

  /** Take what the server has; no, if it has not what is shown, or somebody has gone on meanwhile. */
  const load = async () => {
    if (!conversationId || options().load === false) return;
    const mine = scope;
    const before = history;
    const document = await client.conversation(conversationId).load<Partial<RunDocument>>();
    const messages: ChatMessage[] = whole({ messages: document.messages ?? [] }).messages;
    const last = history.at(-1)?.run_id;
    if (mine !== scope || history !== before || !isFree()) return;
    if (!last || messages.some((message) => message.run_id === last)) history = messages;
  };

  const reload = async () => {
    try {
      await load();
    } catch (cause) {
      // There may be nothing yet, or no conversations at all but a page.
      const { status, code } = cause as Partial<RequestRefusedError>;
      if (status !== 404 && code !== 'not_a_stream') error = cause;
    }
    tell();
  };

  const follow = async (next: Run, actsAfter: number | Promise<number>) => {
    followed.add(next.id);
    run = next;
    live = lost = undefined;
    connection = next.connection;
    const end = next.onConnection((now) => {
      if (run !== next) return;
      connection = now;
      frames.soon();
    });
    tell();
    let acted = await actsAfter;
    try {
      if (run !== next) return;
      for await (const event of next) {
        if (run !== next) return;
        live = reduce(live, event);
        if (event.type === 'run.started' && !conversationId) {
          conversationId = event.thread_id;
          watch();
        }
        if (event.type === 'ui.action' && event.seq > acted) {
          acted = event.seq;
          // What it throws must not end the reading.
          queueMicrotask(() => options().onAction?.(event.action, next));
        }
        frames.soon();
      }
    } catch (cause) {
      if (run === next) error = cause;
    } finally {
      end();
    }
    if (run !== next) return;
    history = shown();
    if (!live || live.status === 'running') lost = next.id;
    run = undefined;
    stops = false;
    connection = next.connection;
    tell();
    if (!lost) await reload();
    const other = queued;
    queued = undefined;
    if (other && !followed.has(other.id) && isFree()) follow(other, seenOf(other.id));
  };

  /** Up to where a run's actions are of the past. If nobody knows, all are. */
  const seenOf = async (id: string) => {
    if (!options().onAction) return 0;
    const { seq } = await client.info(id).catch(() => ({ seq: Infinity }));
    return seq ?? 0;
  };

  const attach = (id = lost) => {
    if (!id) return;
    if (!isFree()) throw new TypeError(BUSY);
    error = undefined;
    follow(client.attach(id), seenOf(id));
  };

  const watch = async () => {
    const signal = scope?.signal;
    if (!signal || watching || !conversationId || options().watch === false) return;
    watching = true;
    try {
      for await (const other of client.conversation(conversationId).watch({ signal })) {
        if (followed.has(other.id)) continue;
        if (!isFree()) queued = other;
        else {
          // The question it answers was asked elsewhere.
          await reload();
          if (isFree() && !signal.aborted) follow(other, seenOf(other.id));
        }
      }
    } catch {
      // The server does not know whose conversation it is, and has no list of runs: there is nothing to watch.
    } finally {
      if (signal === scope?.signal) watching = false;
    }
  };

  const enter = async () => {
    scope = new AbortController();
    const { signal } = scope;
    if (lost && isFree()) attach();
    else if (conversationId && isFree()) {
      if (!options().initialMessages) {
        doing = 'loading';
        tell();
        await reload();
        if (signal.aborted) return;
        if (doing === 'loading') doing = undefined;
        tell();
      }
      const last = history.at(-1);
      if (last?.status === 'running' && last.run_id && isFree()) attach(last.run_id);
    }
    watch();
  };

  const leave = () => {
    scope?.abort();
    scope = queued = undefined;
    watching = false;
    if (doing === 'loading') doing = undefined;
    if (!run) return;
    const left = run;
    history = shown();
    lost = left.id;
    run = undefined;
    left.close();
    if (options().onLeave === 'cancel') left.cancel().catch(() => {});
  };

  const begin = async (asked: Omit<ChatRequest, 'conversationId' | 'messages'>, messages: readonly ChatMessage[]) => {
    if (!isFree()) throw new TypeError(BUSY);
    const before = history;
    const mine = scope;
    history = messages;
    live = error = undefined;
    doing = 'submitted';
    tell();
    try {
      const { body } = options();
      const request = { ...asked, conversationId, messages };
      const { message, regenerate, parentId: parent_id } = asked;
      const started = await client.run(
        typeof body === 'function'
          ? body(request)
          : { message, regenerate, parent_id, conversation_id: conversationId, ...body },
      );
      doing = undefined;
      const isLeft = mine !== scope && !scope;
      if (stops || (isLeft && options().onLeave === 'cancel')) started.cancel().catch(failed);
      if (!isLeft) follow(started, 0);
      else {
        lost = started.id;
        started.close();
      }
      return true;
    } catch (cause) {
      doing = undefined;
      history = before;
      failed(cause);
      return false;
    }
  };

  const failed = (cause: unknown) => {
    error = cause;
    stops = false;
    tell();
  };

  const said = (text: string): ChatMessage => ({
    id: `${LOCAL}${++locals}`,
    role: 'user',
    parts: [{ type: 'text', text, done: true }],
  });

  /** Messages that were said here have ids once they were read from the server. */
  const known = async () => {
    if (history.some(({ id }) => id?.startsWith(LOCAL))) await reload();
    return history;
  };

  return {
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    state: () => state,
    retain() {
      users++;
      if (!scope) enter();
      // Strict mode leaves and comes again at once.
      return () => {
        users--;
        setTimeout(() => users || !scope || leave());
      };
    },
    send: (text) => begin({ message: text }, [...history, said(text)]),
    async regenerate(messageId) {
      const index = messageId === undefined ? history.length - 1 : history.findIndex(({ id }) => id === messageId);
      const at = history.slice(0, index + 1).findLastIndex(({ role }) => role === 'user');
      const messages = await known();
      const regenerate = messages[at]?.id;
      if (!regenerate) throw new TypeError('There is no message that could be answered anew.');
      return begin({ regenerate }, messages.slice(0, at + 1));
    },
    async edit(messageId, text) {
      const at = history.findIndex(({ id }) => id === messageId);
      if (at < 0) throw new TypeError(`There is no message ${messageId}.`);
      const messages = await known();
      const parentId = messages[at]?.parent_id ?? messages[at - 1]?.id ?? '';
      return begin({ message: text, parentId }, [...messages.slice(0, at), said(text)]);
    },
    async stop() {
      if (isFree() || stops) return;
      stops = true;
      tell();
      await run?.cancel().catch(failed);
    },
    attach,
    retryNow: () => run?.retryNow(),
    reload,
  };
}

const BUSY = 'An answer is being written: stop() it, or wait for its end.';
