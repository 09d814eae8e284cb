"""Why a request about a conversation is refused; each with a code of its own."""

from typing import ClassVar

from tailrace.web.errors import RefusedError

__all__ = [
    "ConversationLimitError",
    "ConversationNotFoundError",
    "ConversationsUnavailableError",
    "RevisionConflictError",
    "TurnConflictError",
]

_RETRY_AFTER_SECONDS = 2.0


class ConversationNotFoundError(RefusedError):
    """Unknown, or another owner's, which are not told apart."""

    code: ClassVar[str] = "conversation_not_found"

    def __init__(self, what: str = "conversation") -> None:
        """Say what is missing, a conversation or a message of one."""
        super().__init__(f"There is no such {what}.", status=404)


class RevisionConflictError(RefusedError):
    """The conversation has changed since the client looked; `revision` is the one it has now."""

    code: ClassVar[str] = "revision_conflict"

    def __init__(self, revision: int) -> None:
        """Say which one it has."""
        self.revision = revision
        super().__init__(f"The conversation has changed: its revision is {revision} now.", status=409)


class ConversationLimitError(RefusedError):
    """One more message, or conversation, would be one too many."""

    code: ClassVar[str] = "conversation_limit"

    def __init__(self, reason: str) -> None:
        """Say which bound was reached."""
        super().__init__(reason, status=409)


class TurnConflictError(RefusedError):
    """An id of the turn is taken by something else."""

    code: ClassVar[str] = "turn_conflict"

    def __init__(self, reason: str) -> None:
        """Say which one."""
        super().__init__(reason, status=409)


class ConversationsUnavailableError(RefusedError):
    """The database gave no answer; whether a write happened is unknown."""

    code: ClassVar[str] = "conversations_unavailable"
    retryable: ClassVar[bool] = True

    def __init__(self) -> None:
        """Say no more: what a driver says names hosts and users."""
        super().__init__("The conversations are unavailable.", status=503, retry_after_seconds=_RETRY_AFTER_SECONDS)
