import type { Entry, Event } from './events.gen.js';
import type { Message, Part, ReasoningPart, Reduced, RunDocument, TextPart, ToolPart } from './reduced.gen.js';

/** What a `Run` yields: an event in its place, or the word that the whole log follows anew. */
export type RunEvent = Entry | { type: 'reset' };

/** Fields that an event changes; `undefined` takes one away. */
type Change<T> = { [Key in keyof T]?: T[Key] | undefined };
type Fields<T> = Change<Omit<T, 'type'>>;
type PartFields = Fields<TextPart> & Fields<ReasoningPart> & Fields<ToolPart>;
type AnyPart = PartFields & { type: Part['type'] };
type Of<T extends Event['type']> = Extract<Entry, { type: T }>;
type Handlers = { [T in Event['type']]?: (state: Reduced, event: Of<T>) => Change<Reduced> };

const initial: Reduced = {
  seq: 0,
  status: 'running',
  interrupts: [],
  messages: [],
  steps: [],
  thoughts: [],
  progress: {},
  actions: [],
  suggestions: [],
  sources: [],
  files: [],
  notices: [],
  data: {},
  state_patches: [],
  usage: [],
};

/** A copy of the list in which the last item that matches, or else a new one at its end, is what `change` makes of it. */
const put = <T>(items: T[], matches: (item: T) => unknown, change: (item: T | undefined) => unknown): T[] => {
  const at = items.findLastIndex(matches);
  const copy = items.slice();
  copy[at < 0 ? items.length : at] = change(items[at]) as T;
  return copy;
};

const inMessage = (
  state: Reduced,
  id: string | undefined,
  change: (message: Message) => Change<Message>,
  // Without an id the newest one is meant.
  matches: (message: Message) => unknown = (message) => !id || message.id === id,
) => ({
  messages: put(state.messages, matches, (message) => {
    const before = message ?? ({ id, role: 'assistant', parts: [] as Part[] } as Message);
    return { ...before, ...change(before) };
  }),
});

/** Change the part that has the kind and the ids of `fresh`; if there is none, begin it as `fresh`. */
const inPart = (state: Reduced, id: string | undefined, fresh: AnyPart, change: (part: AnyPart) => PartFields) => {
  const matches = (part: AnyPart) => part.type === fresh.type && part.id === fresh.id && part.call_id === fresh.call_id;
  // A call has its id over all messages, a text within its own.
  const holder = fresh.call_id && state.messages.findLast((message) => message.parts.some(matches));
  return inMessage(
    state,
    id,
    ({ parts }) => ({ parts: put<Part>(parts, matches, (part = fresh as Part) => ({ ...part, ...change(part) })) }),
    holder ? (message) => message === holder : undefined,
  );
};

const inText = (
  state: Reduced,
  event: Of<'text.delta' | 'text.done' | 'reasoning.delta' | 'reasoning.done'>,
  change: (part: AnyPart) => PartFields,
) => {
  const type = event.type[0] === 't' ? 'text' : 'reasoning';
  return inPart(state, event.message_id, { type, id: event.part_id, text: '', done: false }, change);
};

const inCall = (
  state: Reduced,
  event: { call_id?: string; message_id?: string },
  change: (part: AnyPart) => PartFields,
) => inPart(state, event.message_id, { type: 'tool', call_id: event.call_id, state: 'started', args: '' }, change);

const append = (state: Reduced, event: Of<'text.delta' | 'reasoning.delta'>) =>
  inText(state, event, (part) => ({ text: part.text + event.delta }));

const ended = (_: Reduced, event: { type: string; reason?: string }) =>
  ({ status: event.type.slice(4), failure: event.reason && { code: event.reason, message: '' } }) as Change<Reduced>;

/** The event without its place in the log. */
const bare = <T extends Entry>({ seq: _, at_ms: __, first: ___, ...event }: T) => event;

/** What is null in an event is nothing in a run. */
const given = (value: unknown) => value ?? undefined;

const handlers: Handlers = {
  'run.started': (_, { run_id, thread_id, model, at_ms }) => ({ run_id, thread_id, model, started_at_ms: at_ms }),
  'run.completed': (_, { finish_reason, result }) => ({ status: 'completed', finish_reason, result: given(result) }),
  'run.failed': (_, event) => {
    const { type: __, ext: ___, ...failure } = bare(event);
    return { status: 'failed', failure };
  },
  'run.cancelled': ended,
  'run.interrupted': ended,
  'run.paused': (_, { interrupts }) => ({ status: 'paused', interrupts }),
  'step.started': ({ steps }, { step_id, name, index }) => ({
    steps: steps.concat({ id: step_id, name, index, done: false } as Reduced['steps'][number]),
  }),
  'step.finished': ({ steps }, { step_id }) => ({
    steps: steps.length
      ? put(
          steps,
          (step) => !step_id || step.id === step_id,
          (step) => step && { ...step, done: true },
        )
      : steps,
  }),
  'message.started': (state, { message_id, role, name }) =>
    inMessage(state, message_id, (message) => ({ role: role ?? message.role, name })),
  'message.finished': (state, { message_id, finish_reason }) => inMessage(state, message_id, () => ({ finish_reason })),
  'text.delta': append,
  'reasoning.delta': append,
  'text.done': (state, event) => inText(state, event, () => ({ done: true, citations: event.citations })),
  'reasoning.done': (state, event) => inText(state, event, () => ({ done: true, signature: event.signature })),
  'tool.started': (state, event) =>
    inCall(state, event, () => ({ name: event.name, title: event.title, executor: event.executor })),
  'tool.args.delta': (state, event) =>
    inCall(state, event, (call) => (call.state === 'started' ? { args: call.args + event.delta } : {})),
  'tool.ready': (state, event) =>
    inCall(state, event, ({ name }) => ({
      state: 'ready',
      args: '',
      name: event.name ?? name,
      input: given(event.input),
    })),
  'tool.progress': (state, event) =>
    inCall(state, event, ({ output }) => ({
      state: 'running',
      args: '',
      progress: event.progress,
      output: event.output ?? output,
    })),
  'tool.output': (state, event) =>
    inCall(state, event, () => ({ state: 'done', args: '', output: given(event.output) })),
  'tool.error': (state, event) =>
    inCall(state, event, () => ({ state: 'error', args: '', error: { code: event.code, message: event.message } })),
  status: (_, { text }) => ({ line: text }),
  thought: ({ thoughts }, { text }) => ({ thoughts: thoughts.concat(text) }),
  progress: ({ progress }, event) => ({ progress: { ...progress, [event.id ?? '']: bare(event) } }),
  data: ({ data }, { name, id, data: value, transient }) => {
    if (transient) return {};
    const before = data[name];
    return {
      data: {
        ...data,
        ...(id === undefined
          ? { [name]: Array.isArray(before) ? before.concat([value]) : [value] }
          : { [`${name}#${id}`]: value }),
      },
    };
  },
  'ui.action': ({ actions }, { action }) => ({ actions: actions.concat(action) }),
  suggestions: (_, { items }) => ({ suggestions: items }),
  source: ({ sources }, event) => ({ sources: sources.concat(bare(event)) }),
  file: ({ files }, event) => ({ files: files.concat(bare(event)) }),
  notice: ({ notices }, event) => ({ notices: notices.concat(bare(event)) }),
  'state.snapshot': (_, { state }) => ({ state: given(state), state_patches: [] }),
  'state.delta': ({ state_patches }, { patch }) => ({ state_patches: state_patches.concat(patch) }),
  usage: ({ usage }, event) => ({
    usage: usage.filter((used) => used.provider !== event.provider || used.model !== event.model).concat(bare(event)),
  }),
  snapshot: (_, { messages, usage, state }) => ({
    messages: whole({ messages } as RunDocument).messages,
    usage: (usage ?? []) as Reduced['usage'],
    state: given(state),
    state_patches: [],
  }),
};
const handlerOf = new Map(Object.entries(handlers)) as Map<
  string,
  (state: Reduced, event: RunEvent) => Change<Reduced>
>;

/**
 * The run after one more event: a new object, of which what did not change is the same as before.
 *
 * An event that is not beyond `state.seq` changes nothing, but one with the number 0, which is in no log, does. `reset`
 * begins anew. Of types that it does not know, an event only moves `seq` on.
 */
export function reduce(state: Reduced | undefined, event: RunEvent): Reduced {
  const before = state ?? initial;
  if (event.type === 'reset') return initial;
  if (event.seq && event.seq <= before.seq) return before;
  return { ...before, ...handlerOf.get(event.type)?.(before, event), seq: event.seq || before.seq } as Reduced;
}

/** The document that a server answers with, as a state of `reduce`: with the fields that JSON leaves out. */
export function whole(document: Partial<RunDocument>): Reduced {
  const messages = (document.messages ?? []).map((message) => ({
    ...message,
    parts: (message.parts ?? []).map((part) => ({
      ...(part.type === 'tool' ? { args: '' } : { text: '', done: false }),
      ...part,
    })),
  }));
  const { text: _, ...state } = document as RunDocument;
  return { ...initial, ...state, messages } as Reduced;
}

/** All text of the run, exactly as it was streamed. */
export const textOf = ({ messages }: Reduced) =>
  messages.flatMap(({ parts }) => parts.map((part) => (part.type === 'text' ? part.text : ''))).join('');
