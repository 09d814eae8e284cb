// Written by tools/event_schema.py from spec/events.schema.json. Do not edit.

export type Place = {
  /** When the producer took it, in Unix milliseconds. */
  at_ms: number;
  /** Set on a merged entry: the number of the first event it covers; its own is the last one. */
  first?: number;
};

/** Always number 1; written by the runtime. `meta` is what the application gave `start`. */
export type RunStarted = {
  type: 'run.started';
  ext?: Record<string, unknown>;
  run_id: string;
  thread_id?: string;
  message_id?: string;
  parent_run_id?: string;
  model?: string;
  meta?: Record<string, unknown>;
};

/** Terminal: the source came to its end. `result` is any JSON value the source wants to hand over. */
export type RunCompleted = {
  type: 'run.completed';
  ext?: Record<string, unknown>;
  finish_reason?: 'content_filter' | 'length' | 'other' | 'stop' | 'tool_calls';
  result?: unknown;
};

/**
 * Terminal. `message` may be shown to anyone; `correlation_id` leads to the log of the server.
 *
 * `code` is `error`, `timeout`, `limit`, `store_unavailable` or begins with `provider_`.
 */
export type RunFailed = {
  type: 'run.failed';
  ext?: Record<string, unknown>;
  code: string;
  message: string;
  retryable?: boolean;
  correlation_id?: string;
  details?: Record<string, unknown>;
};

/** Terminal: somebody, or the absence of everybody, stopped the run. */
export type RunCancelled = {
  type: 'run.cancelled';
  ext?: Record<string, unknown>;
  reason: 'abandoned' | 'disconnect' | 'superseded' | 'user';
};

/** Terminal: the process that produced the run went away. */
export type RunInterrupted = {
  type: 'run.interrupted';
  ext?: Record<string, unknown>;
  reason: 'shutdown' | 'worker_lost';
};

/** Terminal: a human has to decide; the continuation is a new run with `parent_run_id`. */
export type RunPaused = {
  type: 'run.paused';
  ext?: Record<string, unknown>;
  interrupts: Interrupt[];
};

/** What a paused run waits for; `expires_at_ms` is Unix time. */
export type Interrupt = {
  id: string;
  kind: 'approval' | 'input';
  call_id?: string;
  message?: string;
  schema?: Record<string, unknown>;
  expires_at_ms?: number;
};

/** One turn of an agent's loop begins; `index` counts from 1. */
export type StepStarted = {
  type: 'step.started';
  ext?: Record<string, unknown>;
  step_id?: string;
  name?: string;
  index?: number;
};

/** The step that was started last, or the named one, is over. */
export type StepFinished = {
  type: 'step.finished';
  ext?: Record<string, unknown>;
  step_id?: string;
  finish_reason?: 'content_filter' | 'length' | 'other' | 'stop' | 'tool_calls';
};

/** A message begins. Optional: text without one begins a message of the assistant. */
export type MessageStarted = {
  type: 'message.started';
  ext?: Record<string, unknown>;
  message_id?: string;
  role?: 'assistant' | 'system' | 'tool' | 'user';
  name?: string;
};

/** The open message is over; text after it begins another. */
export type MessageFinished = {
  type: 'message.finished';
  ext?: Record<string, unknown>;
  message_id?: string;
  finish_reason?: 'content_filter' | 'length' | 'other' | 'stop' | 'tool_calls';
};

/** A piece of the answer. The first delta of a part opens it. */
export type TextDelta = {
  type: 'text.delta';
  delta: string;
  ext?: Record<string, unknown>;
  message_id?: string;
  part_id?: string;
};

/** The text part is complete. */
export type TextDone = {
  type: 'text.done';
  ext?: Record<string, unknown>;
  message_id?: string;
  part_id?: string;
  citations?: unknown[];
};

/** A piece of the model's reasoning. */
export type ReasoningDelta = {
  type: 'reasoning.delta';
  delta: string;
  ext?: Record<string, unknown>;
  message_id?: string;
  part_id?: string;
};

/** The reasoning part is complete; `signature` is the provider's, kept for the next turn. */
export type ReasoningDone = {
  type: 'reasoning.done';
  ext?: Record<string, unknown>;
  message_id?: string;
  part_id?: string;
  signature?: string;
  redacted?: boolean;
};

/** The model began to write a call. */
export type ToolStarted = {
  type: 'tool.started';
  ext?: Record<string, unknown>;
  call_id?: string;
  name: string;
  message_id?: string;
  title?: string;
  executor?: 'client' | 'provider' | 'server';
};

/** A piece of the arguments as the model writes them: raw text, not yet JSON. */
export type ToolArgsDelta = {
  type: 'tool.args.delta';
  delta: string;
  ext?: Record<string, unknown>;
  call_id?: string;
};

/** The arguments are complete: `input` is their JSON value. */
export type ToolReady = {
  type: 'tool.ready';
  ext?: Record<string, unknown>;
  call_id?: string;
  name?: string;
  input?: unknown;
};

/** The tool is at work: a preliminary `output`, `progress` from 0 to 1, or both. */
export type ToolProgress = {
  type: 'tool.progress';
  ext?: Record<string, unknown>;
  call_id?: string;
  output?: unknown;
  progress?: number;
};

/** What the tool returned, any JSON value. */
export type ToolOutput = {
  type: 'tool.output';
  ext?: Record<string, unknown>;
  call_id?: string;
  output: unknown;
};

/** The call failed; the run goes on. `message` is public-safe. */
export type ToolError = {
  type: 'tool.error';
  ext?: Record<string, unknown>;
  call_id?: string;
  code: string;
  message: string;
  phase?: 'denied' | 'execution' | 'input';
};

/** One line on what is going on now; the newest replaces the one before. */
export type Status = {
  type: 'status';
  text: string;
  ext?: Record<string, unknown>;
  state?: string;
  level?: 'danger' | 'info' | 'warning';
};

/** A line of a plan, written for people (not the model's reasoning); `step` of `total` counts from 1. */
export type Thought = {
  type: 'thought';
  text: string;
  ext?: Record<string, unknown>;
  step?: number;
  total?: number;
  kind?: string;
};

/** How far a piece of work is: `value` from 0 to 1, or `current` of `total`. The newest per `id` counts. */
export type Progress = {
  type: 'progress';
  ext?: Record<string, unknown>;
  id?: string;
  value?: number;
  current?: number;
  total?: number;
  label?: string;
};

/**
 * Anything of the application's own. Dialects that name their frames send it under `name`.
 *
 * With an `id` the newest per (name, id) counts; `transient` data is not kept in a reduced run.
 */
export type Data = {
  type: 'data';
  name: string;
  data: unknown;
  ext?: Record<string, unknown>;
  id?: string;
  transient?: boolean;
};

/** A request to the page, `{"type": …, "value": …}`: to be checked against a closed list there, and done once. */
export type UIAction = {
  type: 'ui.action';
  action: Record<string, unknown>;
  ext?: Record<string, unknown>;
  id?: string;
};

/** Questions the user may want to ask next. */
export type Suggestions = {
  type: 'suggestions';
  items: string[];
  ext?: Record<string, unknown>;
};

/** Where a statement comes from. */
export type Source = {
  type: 'source';
  ext?: Record<string, unknown>;
  source_id?: string;
  kind: 'document' | 'url';
  url?: string;
  title?: string;
  media_type?: string;
  filename?: string;
  part_id?: string;
  span?: number[];
};

/** A file the run made; by reference, never inline beyond the size of an event. */
export type File = {
  type: 'file';
  ext?: Record<string, unknown>;
  media_type: string;
  url: string;
  name?: string;
};

/** The whole shared state. */
export type StateSnapshot = {
  type: 'state.snapshot';
  ext?: Record<string, unknown>;
  state: unknown;
};

/** A change of the shared state as JSON Patch (RFC 6902). */
export type StateDelta = {
  type: 'state.delta';
  ext?: Record<string, unknown>;
  patch: Record<string, unknown>[];
};

/** Tokens used so far: cumulative per (provider, model), parts counted inside their totals. */
export type Usage = {
  type: 'usage';
  ext?: Record<string, unknown>;
  input_tokens?: number;
  output_tokens?: number;
  provider?: string;
  model?: string;
  reasoning_tokens?: number;
  cached_input_tokens?: number;
  cache_write_input_tokens?: number;
  estimated?: boolean;
};

/** A warning that does not end the run; `message` is public-safe. */
export type Notice = {
  type: 'notice';
  ext?: Record<string, unknown>;
  code: string;
  message: string;
};

/** Everything up to number `upto_seq`, reduced, so that a reader need not replay it. */
export type Snapshot = {
  type: 'snapshot';
  ext?: Record<string, unknown>;
  upto_seq: number;
  messages: unknown[];
  state?: unknown;
  open?: Record<string, unknown>;
  usage?: unknown[];
};

/** One fact of a run. A reader passes over a type it does not know. */
export type Event =
  | RunStarted
  | RunCompleted
  | RunFailed
  | RunCancelled
  | RunInterrupted
  | RunPaused
  | StepStarted
  | StepFinished
  | MessageStarted
  | MessageFinished
  | TextDelta
  | TextDone
  | ReasoningDelta
  | ReasoningDone
  | ToolStarted
  | ToolArgsDelta
  | ToolReady
  | ToolProgress
  | ToolOutput
  | ToolError
  | Status
  | Thought
  | Progress
  | Data
  | UIAction
  | Suggestions
  | Source
  | File
  | StateSnapshot
  | StateDelta
  | Usage
  | Notice
  | Snapshot;

/** An event in its place: `seq` counts 1, 2, 3 … and comes as the id of the frame, 0 is in no log. */
export type Entry = Event & Place & { seq: number };

export type EventType = Event['type'];

/** Types of which one, and only one, ends a run. */
export const TERMINAL_TYPES = [
  'run.completed',
  'run.failed',
  'run.cancelled',
  'run.interrupted',
  'run.paused',
] as const;

export type TerminalType = (typeof TERMINAL_TYPES)[number];

export type Terminal = Extract<Event, { type: TerminalType }>;
