// What TypeScript has to find out about the public API. Checked by `tsc`; that it runs as well is of no interest.
import type { ChatTransport, UIMessage } from 'ai';
import type { ComponentProps } from 'react';
import { describe, expectTypeOf, test } from 'vitest';
import { TailraceChatTransport } from '../src/ai-sdk.js';
import { resumable } from '../src/fetch.js';
import {
  type Client,
  type Connection,
  createClient,
  type Entry,
  type Message,
  openStream,
  type Reduced,
  type Run,
  type RunEvent,
  reduce,
  type ServerSentEvent,
} from '../src/index.js';
import type { Markdown } from '../src/markdown/index.js';
import type { ChatMessage, useChat, useRunEvents } from '../src/react/index.js';
import { runServer } from '../src/testing/index.js';

const client = createClient({ baseUrl: 'https://example.com' });
/** Never called: what is in it has types only. */
const typed = (_: () => unknown) => {};

describe('a run', () => {
  test('yields events that are told apart by their type', () => {
    typed(async () => {
      const run = await client.run({ message: 'hello' }, { key: 'a key of my own' });
      expectTypeOf(run).toEqualTypeOf<Run>();
      for await (const event of run) {
        expectTypeOf(event).toEqualTypeOf<RunEvent>();
        if (event.type === 'text.delta') expectTypeOf(event.delta).toEqualTypeOf<string>();
        if (event.type === 'run.failed') expectTypeOf(event.code).toEqualTypeOf<string>();
        if (event.type === 'tool.output') expectTypeOf(event.output).toEqualTypeOf<unknown>();
        if (event.type !== 'reset') expectTypeOf(event.seq).toEqualTypeOf<number>();
        // @ts-expect-error - there is no such event
        if (event.type === 'text.deltas') return;
      }
    });
  });

  test('has what it was read to', () => {
    expectTypeOf<Run['status']>().toEqualTypeOf<Reduced['status']>();
    expectTypeOf<Run['cursor']>().toEqualTypeOf<number>();
    expectTypeOf<Run['connection']>().toEqualTypeOf<Connection>();
    expectTypeOf<Connection['state']>().toEqualTypeOf<'connecting' | 'open' | 'waiting' | 'closed'>();
    expectTypeOf<Run['text']>().returns.resolves.toEqualTypeOf<string>();
    expectTypeOf<Run['cancel']>().returns.resolves.toEqualTypeOf<boolean>();
    typed(async () => {
      const { result } = await client.attach('id').result<{ answer: number }>();
      expectTypeOf(result).toEqualTypeOf<{ answer: number } | undefined>();
    });
  });

  test('cannot be written to', () => {
    typed(() => {
      const run = client.attach('id', { after: 3 });
      // @ts-expect-error - the cursor is moved by reading
      run.cursor = 7;
    });
  });
});

describe('a client', () => {
  test('takes headers, and what makes them', () => {
    expectTypeOf(createClient).returns.toEqualTypeOf<Client>();
    typed(() => {
      createClient({ headers: { authorization: 'Bearer t' } });
      createClient({
        headers: async ({ number, status }) => {
          expectTypeOf(number).toEqualTypeOf<number>();
          expectTypeOf(status).toEqualTypeOf<number | undefined>();
          return { authorization: 'Bearer t' };
        },
      });
      createClient({ share: 'off' });
      // @ts-expect-error - sharing is a word or a name
      createClient({ share: false });
      // @ts-expect-error - a misspelt option is none
      createClient({ baseURL: '/' });
    });
  });

  test('watches conversations', () => {
    typed(async () => {
      for await (const run of client.conversation('id').watch()) expectTypeOf(run).toEqualTypeOf<Run>();
    });
  });
});

describe('a stream', () => {
  test('yields text, of dialects there are', () => {
    typed(async () => {
      const stream = openStream('/chat', { method: 'POST', body: '{}', dialect: 'tokens' });
      for await (const event of stream) expectTypeOf(event).toEqualTypeOf<ServerSentEvent>();
      // @ts-expect-error - a body is sent as it is, so it is no object
      openStream('/chat', { method: 'POST', body: { message: 'hello' } });
      // @ts-expect-error - there is no such dialect
      openStream('/chat', { dialect: 'token' });
    });
  });
});

test('a run is reduced event by event', () => {
  expectTypeOf(reduce).parameters.toEqualTypeOf<[Reduced | undefined, RunEvent]>();
  expectTypeOf(reduce).returns.toEqualTypeOf<Reduced>();
  expectTypeOf<Reduced['messages']>().toEqualTypeOf<Message[]>();
  expectTypeOf<Entry>().toExtend<{ type: string; seq: number; at_ms: number }>();
});

describe('the entries', () => {
  test('fit where they are put', () => {
    expectTypeOf(resumable).returns.toEqualTypeOf<typeof fetch>();
    expectTypeOf(new TailraceChatTransport()).toExtend<ChatTransport<UIMessage>>();
    expectTypeOf(runServer).returns.toHaveProperty('fetch');
    expectTypeOf<ReturnType<typeof runServer>['fetch']>().toExtend<typeof fetch>();
  });

  test('of React give what a page shows', () => {
    expectTypeOf<ReturnType<typeof useChat>['messages']>().toEqualTypeOf<readonly ChatMessage[]>();
    expectTypeOf<ReturnType<typeof useChat>['connection']>().toEqualTypeOf<Connection>();
    expectTypeOf<ReturnType<typeof useRunEvents>['events']>().toEqualTypeOf<readonly Entry[]>();
    expectTypeOf<ComponentProps<typeof Markdown>>().toExtend<{ text: string }>();
  });
});
