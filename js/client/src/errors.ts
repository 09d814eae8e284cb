/** What went wrong, with a `code` that never changes. */
export class TailraceError extends Error {
  /** The name of the class in small letters, such as `stream_broken`. */
  readonly code: string;

  constructor(kind: string, message: string, facts?: object) {
    super(message);
    // Not taken from the class, whose name a minifier changes.
    this.name = `${kind}Error`;
    this.code = kind.replace(/\B[A-Z]/g, '_$&').toLowerCase();
    Object.assign(this, facts);
  }
}

/** The server said no, and asking again would not change it. */
export class RequestRefusedError extends TailraceError {
  declare readonly status: number;
  /** The code in the JSON of the answer, if it has one. */
  declare readonly errorCode: string | undefined;
  /** How long the server asked to wait, if it did. */
  declare readonly retryAfterMs: number | undefined;

  constructor(status: number, message?: string, errorCode?: string, retryAfterMs?: number) {
    super('RequestRefused', message || `HTTP ${status}`, { status, errorCode, retryAfterMs });
  }
}

/** The answer is no event stream. */
export class NotAStreamError extends TailraceError {
  declare readonly contentType: string;
  declare readonly status: number;
  /** The body of the answer, if that was JSON. */
  declare readonly document: unknown;

  constructor(contentType: string, status = 200, document?: unknown) {
    super('NotAStream', `No event stream but ${contentType || 'nothing'}`, { contentType, status, document });
  }
}

/** The stream was given up before its end; `cause` is what broke it last. */
export class StreamBrokenError extends TailraceError {
  declare readonly reason: string;
  /** How many attempts in a row brought nothing. */
  declare readonly attempts: number;

  constructor(reason: string, attempts = 0, cause?: unknown) {
    super('StreamBroken', `The stream broke: ${reason}`, { reason, attempts, cause });
  }
}

/** The run has no result. */
export class RunFailedError extends TailraceError {
  declare readonly runId: string;
  /** `failed`, `cancelled`, `interrupted` or `paused`. */
  declare readonly status: string;
  /** The code of `run.failed`, or the reason of another ending. */
  declare readonly failure: string;

  constructor(runId: string, status: string, failure: string, message?: string) {
    super('RunFailed', message || `The run ${status} (${failure})`, { runId, status, failure });
  }
}
