export { type Client, type ClientOptions, type Conversation, createClient, type StartOptions } from './client.js';
export type { Dialect } from './endings.js';
export {
  NotAStreamError,
  RequestRefusedError,
  RunFailedError,
  StreamBrokenError,
  TailraceError,
} from './errors.js';
export type * from './events.gen.js';
export type { Attempt, Connection, ReconnectOptions } from './machine.js';
export { type RunEvent, reduce } from './reduce.js';
export type * from './reduced.gen.js';
export type { Run } from './run.js';
export type { ServerSentEvent } from './sse.js';
export { type EventStream, openStream, type StreamOptions } from './stream.js';
