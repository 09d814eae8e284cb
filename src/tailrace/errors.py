"""Every error tailrace raises on purpose. Each has a stable `code` and its facts as attributes: nobody parses messages.

TailraceError
├── FrameInvalidError      a frame cannot be written: a line break in a field that has one line, a bad retry delay
├── FrameTooLargeError     a peer sent a frame beyond the limit
├── CursorInvalidError     a `Last-Event-ID` that is no cursor
├── EventInvalidError      bytes that are no event, or an event that breaks a rule of the vocabulary
├── DialectNotFoundError   no dialect of that name
├── OptionInvalidError     a dialect was given an option that it cannot be spoken with
├── SourceInvalidError     a source is, or yielded, something that is no event
├── KeyInvalidError        an idempotency key or run id that cannot be used
├── NoRunError             `emit` or `current_run` outside a run
├── RunClosedError         `emit` after the run has ended
├── RunLimitError          a run reached its bound on events or bytes
├── BufferFullError        the store is behind: too much of the run waits for its acknowledgement
├── RunFailedError         a run ended otherwise than completed, and its result was asked for
├── RequestRefusedError    a client's request was answered with a refusal that is final
├── NotAStreamError        a client's request was answered, but not with a stream
├── StreamBrokenError      a client's stream broke before its end, and cannot be resumed
├── DrainingError          no new runs: the process is shutting down
├── BusyError              no new runs: the process has as many as it may have
├── SendTimeoutError       a reader took nothing for the send timeout
└── StoreError             the log store refused or could not be reached
    ├── StoreSetupError        the store is there but cannot be used as it is set up
    ├── StoreUnavailableError  no answer; whether the write happened is unknown, the same write may be repeated
    ├── FencedError            another producer owns the run, or it is sealed: stop writing
    ├── GapError               the store's log ends before what the producer thinks was acknowledged
    ├── FingerprintError       the idempotency key was used for a different request
    └── RunNotFoundError       unknown, expired, or another owner's run
"""

from typing import ClassVar

__all__ = [
    "BufferFullError",
    "BusyError",
    "CursorInvalidError",
    "DialectNotFoundError",
    "DrainingError",
    "EventInvalidError",
    "FencedError",
    "FingerprintError",
    "FrameInvalidError",
    "FrameTooLargeError",
    "GapError",
    "KeyInvalidError",
    "NoRunError",
    "NotAStreamError",
    "OptionInvalidError",
    "RequestRefusedError",
    "RunClosedError",
    "RunFailedError",
    "RunLimitError",
    "RunNotFoundError",
    "SendTimeoutError",
    "SourceInvalidError",
    "StoreError",
    "StoreSetupError",
    "StoreUnavailableError",
    "StreamBrokenError",
    "TailraceError",
]

_SHOWN_CHARACTERS = 64


class TailraceError(Exception):
    """Base of every error below.

    Attributes:
        code: Stable slug, safe on the wire.
        retryable: Whether the same call may succeed later.
        public: Whether its text was written for whoever asked, and says nothing else.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    public: ClassVar[bool] = False


class FrameInvalidError(TailraceError):
    """The frame cannot be written without changing its meaning; `reason` says why."""

    code = "frame_invalid"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class FrameTooLargeError(TailraceError):
    """A frame grew beyond `limit_bytes` before it ended."""

    code = "frame_too_large"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"frame is larger than {limit_bytes} bytes")


class CursorInvalidError(TailraceError):
    """The text is not a cursor; `text` is what the client sent, cut to 64 characters."""

    code = "cursor_invalid"

    def __init__(self, text: str) -> None:
        self.text = text[:_SHOWN_CHARACTERS]
        super().__init__(f"not a cursor: {self.text!r}")


class EventInvalidError(TailraceError):
    """The bytes are no event, or the event breaks a rule of the vocabulary; `reason` says which."""

    code = "event_invalid"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class DialectNotFoundError(TailraceError):
    """There is no dialect called `name` (cut to 64 characters)."""

    code = "dialect_not_found"

    def __init__(self, name: str) -> None:
        self.name = name[:_SHOWN_CHARACTERS]
        super().__init__(f"no dialect named {self.name!r}")


class OptionInvalidError(TailraceError):
    """A dialect cannot be spoken with `value` (cut to 64 characters) as its option `name`."""

    code = "option_invalid"

    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.value = str(value)[:_SHOWN_CHARACTERS]
        super().__init__(f"{name} cannot be {self.value!r}")


class SourceInvalidError(TailraceError):
    """A source is, or yielded, something that is no event; `type_name` names it."""

    code = "source_invalid"

    def __init__(self, type_name: str, expected: str) -> None:
        self.type_name = type_name
        super().__init__(f"got {type_name}, expected {expected}")


class KeyInvalidError(TailraceError):
    """The idempotency key or run id cannot be used; `reason` says why."""

    code = "key_invalid"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class NoRunError(TailraceError):
    """`emit` or `current_run` was called outside a producing context."""

    code = "no_run"

    def __init__(self) -> None:
        super().__init__("called outside a run: call it from a source, or from a tool that a source calls")


class RunClosedError(TailraceError):
    """The run `run_id` has ended: nothing can be added to its log."""

    code = "run_closed"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__("the run has ended")


class RunLimitError(TailraceError):
    """The run reached its bound; `bound` is `max_events`, `max_bytes` or `event_bytes`, `limit` its value."""

    code = "limit"

    def __init__(self, bound: str, limit: int) -> None:
        self.bound = bound
        self.limit = limit
        super().__init__(f"the run reached {bound} = {limit}")


class BufferFullError(TailraceError):
    """More than `limit_bytes` of the run wait for the store's acknowledgement."""

    code = "buffer_full"
    retryable = True

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"more than {limit_bytes} bytes wait for the store")


class RunFailedError(TailraceError):
    """The run has no result.

    Attributes:
        run_id: The run.
        status: `failed`, `cancelled`, `interrupted` or `paused`.
        failure: The code of `run.failed`, or the reason of the other endings.
        message: Public-safe sentence.
    """

    code = "run_failed"

    def __init__(self, run_id: str, *, status: str, failure: str, message: str = "") -> None:
        self.run_id = run_id
        self.status = status
        self.failure = failure
        self.message = message
        super().__init__(f"the run {status} ({failure}){': ' if message else ''}{message}")


class RequestRefusedError(TailraceError):
    """A server refused a client's request, and asking again would not help.

    Attributes:
        status: The HTTP status.
        message: What the server says of it; "" if nothing.
        error_code: The code in the answer's body; it is this that tells refusals apart, `code` is the same for all.
        retry_after_seconds: When the server wants to be asked again, if it says so.
    """

    code = "request_refused"

    def __init__(
        self, status: int, message: str = "", *, error_code: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        self.status = status
        self.message = message
        self.error_code = error_code
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"the server answered {status}{': ' if message else ''}{message}")


class NotAStreamError(TailraceError):
    """A server answered with `content_type`, which is not what was asked for."""

    code = "not_a_stream"

    def __init__(self, content_type: str, *, expected: str = "text/event-stream") -> None:
        self.content_type = content_type
        super().__init__(f"the answer is {content_type or 'of no type'}, not {expected}")


class StreamBrokenError(TailraceError):
    """A stream broke before its end, and cannot be resumed; `reason` says why, after `attempts` requests."""

    code = "stream_broken"

    def __init__(self, reason: str, *, attempts: int) -> None:
        self.reason = reason
        self.attempts = attempts
        super().__init__(f"the stream broke: {reason}")


class DrainingError(TailraceError):
    """The process is shutting down and starts no new runs."""

    code = "draining"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the server is restarting")


class BusyError(TailraceError):
    """The process produces `limit` runs and starts no other before one has ended."""

    code = "busy"
    retryable = True

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__("the server has too many runs under way")


class SendTimeoutError(TailraceError):
    """The reader took nothing for `timeout_seconds`."""

    code = "send_timeout"

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"the reader took nothing for {timeout_seconds} s")


class StoreError(TailraceError):
    """Base of what a log store answers instead of an acknowledgement."""

    code = "store"


class StoreSetupError(StoreError):
    """The store cannot be used as it is set up; `reason` says what to change, and holds no password."""

    code = "store_setup"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreUnavailableError(StoreError):
    """The store gave no answer; the outcome is unknown and the same write may be repeated."""

    code = "store_unavailable"
    retryable = True

    def __init__(self, reason: str = "no answer") -> None:
        self.reason = reason
        super().__init__(f"the log store is unavailable: {reason}")


class FencedError(StoreError):
    """Another producer owns `run_id`, or it is sealed: the writer must stop."""

    code = "fenced"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__("the run belongs to another producer or is sealed")


class GapError(StoreError):
    """The write does not continue the log; `last` is the last number the store has."""

    code = "gap"
    retryable = True

    def __init__(self, last: int) -> None:
        self.last = last
        super().__init__(f"the log ends at {last}")


class FingerprintError(StoreError):
    """The key of `run_id` was used before for a request with another fingerprint."""

    code = "conflict"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__("the idempotency key was used for a different request")


class RunNotFoundError(StoreError):
    """No such run for this caller: unknown, expired or another owner's, which are not told apart."""

    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__("no such run")
