import type { ServerSentEvent } from './sse.js';

const DONE = /^message\n\[DONE]$/;

/** The last event of a stream, as its type and data over two lines. A comment `: end` and a 204 end every stream. */
const LAST = {
  native: /^run\.(completed|failed|cancelled|interrupted|paused)\n/,
  'ai-sdk': DONE,
  openai: DONE,
  tokens: DONE,
  'openai-responses': /^response\.(completed|failed|incomplete|cancelled)\n/,
  'ag-ui': /^message\n\{"type": ?"RUN_(FINISHED|ERROR)"/,
  chunks: /^end\n/,
  steps: /^complete\n/,
  text: /^run\.ended\n/,
  /** Any endpoint, read as EventSource reads it. */
  raw: /^$/,
};

/** Which events are in a stream, and which is its last. */
export type Dialect = keyof typeof LAST;

/**
 * Tells of an event whether it is the last of its stream.
 *
 * @throws TypeError - there is no such dialect
 */
export const lastOf = (dialect: Dialect) => {
  const last = LAST[dialect];
  if (!last) throw new TypeError(`Unknown dialect: ${dialect}`);
  return ({ event, data }: ServerSentEvent) => last.test(`${event}\n${data}`);
};
