// Written by tools/event_schema.py from spec/events.schema.json. Do not edit.

import type { File, Interrupt, Notice, Progress, Source, Usage } from './events.gen.js';

/** A run as it stands after entry `seq`. */
export type Reduced = {
  run_id?: string;
  thread_id?: string;
  seq: number;
  /** When it began, in Unix milliseconds. */
  started_at_ms?: number;
  status: 'cancelled' | 'completed' | 'failed' | 'interrupted' | 'paused' | 'running';
  model?: string;
  finish_reason?: string;
  result?: unknown;
  failure?: Failure;
  interrupts: Interrupt[];
  messages: Message[];
  steps: Step[];
  line?: string;
  thoughts: string[];
  progress: Record<string, Progress>;
  actions: Record<string, unknown>[];
  suggestions: string[];
  sources: Source[];
  files: File[];
  notices: Notice[];
  /** Application data: under its name a list of what came without an id, under `name#id` the newest with it. */
  data: Record<string, unknown>;
  /** The newest state snapshot. */
  state?: unknown;
  /** The operations of all state deltas since then, in order. */
  state_patches: Record<string, unknown>[];
  /** The newest count per (provider, model). */
  usage: Usage[];
};

/** Why a run is not completed: the code of `run.failed`, or the reason of the other endings. */
export type Failure = {
  code: string;
  message: string;
  retryable?: boolean;
  correlation_id?: string;
  details?: Record<string, unknown>;
};

/** One message with its parts in the order in which they began. */
export type Message = {
  id?: string;
  role: string;
  name?: string;
  parts: (TextPart | ReasoningPart | ToolPart)[];
  finish_reason?: string;
};

/** A text of a message; `done` once it was closed. */
export type TextPart = {
  type: 'text';
  id?: string;
  text: string;
  done: boolean;
  citations?: unknown[];
};

/** A stretch of the model's reasoning. */
export type ReasoningPart = {
  type: 'reasoning';
  id?: string;
  text: string;
  done: boolean;
  signature?: string;
};

/** One tool call. `args` is the raw text of arguments that are not complete yet. */
export type ToolPart = {
  type: 'tool';
  call_id?: string;
  name?: string;
  state: 'done' | 'error' | 'ready' | 'running' | 'started';
  title?: string;
  executor?: 'client' | 'provider' | 'server';
  args: string;
  input?: unknown;
  output?: unknown;
  progress?: number;
  error?: Record<string, string>;
};

/** One turn of an agent's loop. */
export type Step = {
  id?: string;
  name?: string;
  index?: number;
  done: boolean;
};

/** What a message is made of. */
export type Part = TextPart | ReasoningPart | ToolPart;

/** As JSON has it: a field whose value is the one it begins with is left out. */
export type Sparse<T> = T extends (infer Item)[]
  ? Sparse<Item>[]
  : T extends object
    ? { [Key in keyof T]?: Sparse<T[Key]> }
    : T;

/** A run as one document: `status` and `text`, all its text, are always there. */
export type RunDocument = Sparse<Reduced> & { status: Reduced['status']; text: string };
