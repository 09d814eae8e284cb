import { NotAStreamError } from './errors.js';
import { randomKey } from './keys.js';
import type { FollowOptions, ReconnectOptions } from './machine.js';
import { whole } from './reduce.js';
import type { RunDocument } from './reduced.gen.js';
import { createRun, type Run, type RunParts, type Source } from './run.js';
import type { Sharing } from './sharing.js';
import { openStream } from './stream.js';

export interface ClientOptions
  extends Omit<ReconnectOptions, 'onConnection'>,
    Pick<FollowOptions, 'credentials' | 'fetch'> {
  /** What the paths below are relative to; itself relative to the page, if there is one. By default `/`. */
  baseUrl?: string | undefined;
  /** Where runs are started, by default `chat`. */
  start?: string | undefined;
  /** Where the run routes are installed, by default `runs`. */
  runs?: string | undefined;
  /** By default `conversations`. */
  conversations?: string | undefined;
  /**
   * Whether the tabs of a browser read over one connection. `auto`: where the browser can, and no `headers` are set, as
   * another tab may be somebody else's. A string says who reads, such as a user's id: tabs of the same one share.
   */
  share?: 'auto' | 'off' | (string & {}) | undefined;
}

export interface StartOptions {
  /** The Idempotency-Key: what is started twice with one key is one run. By default random. */
  key?: string | undefined;
  /** Ends the request, or the reading of its run; the run goes on. */
  signal?: AbortSignal | undefined;
  /** Instead of the client's `start`. */
  path?: string | undefined;
}

export interface Conversation {
  /** Yields the runs that go on in the conversation, then those that begin there. Needs a server with identities. */
  watch(options?: { signal?: AbortSignal | undefined }): AsyncGenerator<Run, void>;
  /** The conversation with its messages, as the server has it. */
  load<T = unknown>(): Promise<T>;
}

export interface Client {
  /** Starts a run; resolves as soon as the server has answered. Nothing is read before it is asked for. */
  run(body: unknown, options?: StartOptions): Promise<Run>;
  /** A run to be read from its event after `after` on; nothing is asked for yet. */
  attach(runId: string, options?: { after?: number | undefined }): Run;
  /** Asks the server to stop a run; false if it had ended. */
  cancel(runId: string): Promise<boolean>;
  /** A run so far. */
  info(runId: string): Promise<RunDocument & { events_url?: string }>;
  conversation(id: string): Conversation;
}

export function createClient(options: ClientOptions = {}): Client {
  const { baseUrl = '/', start = 'chat', runs = 'runs', conversations = 'conversations', ...rest } = options;
  const { share = 'auto', ...stream } = rest;
  const { headers } = stream;
  let sharing: Promise<Sharing | undefined> | undefined;

  const urlOf = (...path: string[]) => {
    try {
      const base = new URL(`${baseUrl.replace(/\/$/, '')}/`, globalThis.location?.href);
      return new URL(path.join('/'), base).href;
    } catch {
      throw new TypeError('Outside of a page, baseUrl is absolute: https://…');
    }
  };
  const runUrl = (id: string, what: string) => urlOf(runs, encodeURIComponent(id), what);

  /** What is no stream comes out of the one loop, too: an answer in JSON. */
  const ask = async <T>(url: string, method = 'GET'): Promise<T> => {
    const asked = openStream(url, { ...stream, method, dialect: 'raw', maxAttempts: 3 });
    try {
      await asked.opened;
    } catch (error) {
      if (error instanceof NotAStreamError && error.document) return error.document as T;
      throw error;
    } finally {
      asked.close();
    }
    throw new NotAStreamError('', 204);
  };

  const shared = () => {
    const able = globalThis.navigator?.locks && globalThis.BroadcastChannel && globalThis.location;
    if (!able || share === 'off' || (share === 'auto' && headers)) return undefined;
    sharing ??= import('./sharing.js')
      .then(({ createSharing }) =>
        createSharing({
          name: `tailrace ${urlOf(runs)} ${share}`,
          open: (query) =>
            openStream(urlOf(runs, 'feed'), {
              ...stream,
              dialect: 'raw',
              fetch: (url, init) => (stream.fetch ?? fetch)(`${url}?${query()}`, init),
            }),
          identified: () => ask(urlOf(runs, '?thread=-')),
        }),
      )
      // A browser may forbid it, and the file may be gone.
      .catch(() => undefined);
    return sharing;
  };

  /** Reads with the other tabs what `key` names, a run or `?thread`; on its own if that cannot be. */
  const open = async (key: string, url: string, cursor: number, alone: boolean): Promise<() => Source> => {
    const sharing = alone ? undefined : await shared();
    return () =>
      sharing?.read(key, cursor) ||
      openStream(url, {
        ...stream,
        dialect: key[0] === '?' ? 'raw' : 'native',
        lastEventId: cursor ? `${cursor}` : '',
      });
  };

  const make = (parts: Pick<RunParts, 'id' | 'after' | 'source' | 'document'>, url = runUrl(parts.id, 'events')): Run =>
    createRun({
      ...parts,
      url,
      open: (cursor, alone) => open(parts.id, url, cursor, alone),
      attach: () => make({ id: parts.id }, url),
      cancel: () => client.cancel(parts.id),
    });

  const client: Client = {
    async run(body, { key = randomKey(), signal, path = start } = {}) {
      const isShared = await shared();
      const source = openStream(urlOf(path), {
        ...stream,
        extra: {
          'content-type': 'application/json',
          'idempotency-key': key,
          ...(isShared && { prefer: 'respond-async' }),
        },
        method: 'POST',
        body: JSON.stringify(body),
        signal,
      });
      let run: Run;
      try {
        const answer = await source.opened;
        if (!answer) throw signal?.reason;
        const id = /([^/]+)\/events/.exec(source.url)?.[1] ?? '';
        if (isShared && answer.status === 202) source.close();
        run = make({ id, source: source.connection.state === 'closed' ? undefined : source }, source.url);
      } catch (error) {
        const document = error instanceof NotAStreamError ? (error.document as RunDocument | undefined) : undefined;
        if (!document?.run_id) throw error;
        run = make({ id: document.run_id, document: whole(document) });
      }
      if (signal?.aborted) run.close();
      signal?.addEventListener('abort', run.close);
      return run;
    },
    attach: (id, { after } = {}) => make({ id, after }),
    cancel: async (id) => (await ask<{ accepted: boolean }>(runUrl(id, 'cancel'), 'POST')).accepted,
    info: (id) => ask(urlOf(runs, encodeURIComponent(id))),
    conversation: (id) => ({
      async *watch({ signal } = {}) {
        const url = urlOf(runs, `feed?${new URLSearchParams({ thread: id, merge: '0' })}`);
        const seen = new Set<string>();
        let source: Source | undefined;
        try {
          do {
            const opened = await open(`?${id}`, url, 0, !!source);
            if (signal?.aborted) return;
            source = opened();
            signal?.addEventListener('abort', source.close);
            for await (const { event, data } of source) {
              if (event !== 'run.started') continue;
              const { run_id, thread_id } = JSON.parse(data);
              if (thread_id !== id || seen.has(run_id)) continue;
              seen.add(run_id);
              yield make({ id: run_id });
            }
          } while (source.refused);
        } finally {
          source?.close();
        }
      },
      load: () => ask(urlOf(conversations, encodeURIComponent(id))),
    }),
  };
  return client;
}
