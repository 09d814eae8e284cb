// Of `ai` only types are imported: the transport is handed to whichever version the page has.
import type { ChatTransport, UIMessage, UIMessageChunk } from 'ai';
import { nothing } from './backoff.js';
import { randomKey } from './keys.js';
import type { FollowOptions, ReconnectOptions } from './machine.js';
import { openEvents } from './stream.js';

type Send<M extends UIMessage> = Parameters<ChatTransport<M>['sendMessages']>[0];
type Reconnect<M extends UIMessage> = Parameters<ChatTransport<M>['reconnectToStream']>[0];
type Chunks = ReadableStream<UIMessageChunk>;
type Caller = { chatId: string; abortSignal?: AbortSignal | undefined; headers?: HeadersInit | undefined };

/** What is sent to have a message answered. */
export interface ChatRequest<M extends UIMessage> {
  /** The chat's id. */
  id: string;
  messages: M[];
  trigger: Send<M>['trigger'];
  messageId: string | undefined;
}

export interface TailraceChatTransportOptions<M extends UIMessage>
  extends ReconnectOptions,
    Pick<FollowOptions, 'credentials' | 'fetch'> {
  /** Where the server has its AI SDK routes; `/api/chat` by default. A query in it goes with every request. */
  api?: string | undefined;
  /** What a request becomes; by default it is sent as it is. Where the server has a history the last message will do. */
  body?: ((request: ChatRequest<M>) => object) | undefined;
  /**
   * What an abort means for the run: it is cancelled, the default, or it goes on without this reader. The AI SDK has one
   * word for two things: `chat.stop()` aborts, and so does in ai 7 a component that leaves the page, unless its `Chat`
   * was made outside of it.
   */
  onAbort?: 'cancel' | 'detach' | undefined;
}

const DONE = '[DONE]';

/**
 * A transport for `useChat` and `Chat` of ai 5, 6 and 7, to the AI SDK routes of a Tailrace server.
 *
 * A connection that is lost is resumed within the answer, which neither loses nor repeats anything. An answer that
 * breaks off for good is an error, never an answer. One that is stopped is cancelled on the server.
 */
export class TailraceChatTransport<M extends UIMessage = UIMessage> implements ChatTransport<M> {
  /** An answer that a page comes back to is told from its beginning, so the page has to forget what it has of it. */
  readonly resumeStreamIsReplay = true;
  /** Has a message answered. Rejects, before the first chunk, as `openStream` does. */
  readonly sendMessages: (options: Send<M>) => Promise<Chunks>;
  /** The answer that is under way in a chat, or has just ended; `null` if there is none. */
  readonly reconnectToStream: (options: Reconnect<M>) => Promise<Chunks | null>;

  constructor(options: TailraceChatTransportOptions<M> = {}) {
    const { api = '/api/chat', body, onAbort, onConnection, headers: source, ...policy } = options;
    /** By chat, what reads its newest answer. */
    const newest = new Map<string, unknown>();
    const at = (chatId: string, name: string) =>
      api.replace(/\/?(?=[?#]|$)/, () => `/${encodeURIComponent(chatId)}/${name}`);

    const open = (url: string, headers: HeadersInit | undefined, json?: object, listener?: typeof onConnection) => {
      const own = json && {
        'content-type': 'application/json',
        'idempotency-key': randomKey(),
      };
      return openEvents(
        url,
        {
          maxAttempts: 10,
          ...policy,
          ...(json && { method: 'POST', body: JSON.stringify(json) }),
          dialect: 'ai-sdk',
          onConnection: listener,
          headers: source,
          extra: { ...Object.fromEntries(new Headers(headers)), ...own },
        },
        ({ data }) => data === DONE,
      );
    };

    const read = (url: string, { chatId, abortSignal, headers }: Caller, json?: object) =>
      new Promise<Chunks | null>((resolve, reject) => {
        abortSignal?.throwIfAborted();
        const stream = open(url, headers, json, onConnection);
        newest.set(chatId, stream);
        let fail: (reason: unknown) => void = reject;

        const end = () => {
          abortSignal?.removeEventListener('abort', abort);
          stream.close();
          if (newest.get(chatId) === stream) newest.delete(chatId);
        };

        const abort = async () => {
          fail(abortSignal?.reason);
          const cancels = onAbort !== 'detach';
          // Only the answer to a start says which run it began, so that is awaited; nothing is asked again.
          const leave = () => (cancels && stream.connection.state === 'connecting') || stream.close();
          stream.onConnection(leave);
          leave();
          const began = await stream.opened.catch(nothing);
          // Who reads the chat anew aborts what read it before, and goes on with the same run.
          const isNewest = (newest.get(chatId) ?? stream) === stream;
          end();
          const [, runId] = /([^/]+)\/events(?:[?#]|$)/.exec(stream.url) ?? [];
          // Tried as often as an answer is; that it is answered by no stream does not matter.
          if (cancels && began && isNewest) open(at(chatId, 'stop'), headers, { runId }).opened.catch(nothing);
        };
        abortSignal?.addEventListener('abort', abort);

        const chunks = () => {
          const events = stream[Symbol.asyncIterator]();
          const told: UnderlyingDefaultSource<UIMessageChunk> = {
            start(controller) {
              fail = (reason) => controller.error(reason);
            },
            async pull(controller) {
              try {
                const { value } = await events.next();
                if (value && value.data !== DONE) return controller.enqueue(JSON.parse(value.data));
                controller.close();
              } catch (error) {
                fail(error);
              }
              end();
            },
            cancel: end,
          };
          return new ReadableStream(told, { highWaterMark: 0 });
        };

        stream.opened.then(
          (answer) => {
            if (answer?.status !== 204) return resolve(chunks());
            end();
            resolve(null);
          },
          (error) => {
            end();
            reject(error);
          },
        );
      });

    this.reconnectToStream = (chat) => read(at(chat.chatId, 'stream'), chat);
    this.sendMessages = ({ chatId: id, messages, trigger, messageId, ...chat }) => {
      const request = { ...chat.body, id, messages, trigger, messageId };
      // No start is answered by nothing.
      return read(api, { ...chat, chatId: id }, body?.(request) ?? request) as Promise<Chunks>;
    };
  }
}
