"""What was asked of the provider and what became of it, to be read and waited for from the test's thread."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Entry", "Journal", "Outcome"]

Outcome: TypeAlias = Literal["completed", "fault", "client_left"]

_BOUND_SECONDS = 10.0


@dataclass(eq=False)
class Entry:
    """One request.

    Attributes:
        path: Where it was sent.
        headers: Names in lower case.
        body: All of it.
        tokens: Sent so far. A client never has more than are counted here.
        outcome: None while the answer is being sent. Known before the last byte is, so that a client that has read to
            the end need not wait for it. `fault` is also a refusal; `client_left` is also what ends a stall.
    """

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    tokens: int = 0
    outcome: Outcome | None = None

    @property
    def model(self) -> str:
        """The model name, which is a script."""
        return str(self.body.get("model"))


class Journal:
    """Every request in the order of arrival. The provider writes it in its own thread."""

    def __init__(self) -> None:
        """Begin empty."""
        self._entries: list[Entry] = []
        self._changed = threading.Condition()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All so far; those of answers that are being sent still change."""
        with self._changed:
            return tuple(self._entries)

    def wait_for(self, condition: Callable[[Entry], object], *, within_seconds: float = _BOUND_SECONDS) -> Entry:
        """Wait until a condition holds for an entry, and return the first such entry.

        It blocks: in a test with an event loop that has something else to do, call it by `asyncio.to_thread`.
        """
        with self._changed:
            found = self._changed.wait_for(lambda: next(filter(condition, self._entries), None), within_seconds)
            assert found is not None, f"not within {within_seconds} s; the journal has {self._entries}"
            return found

    def add(self, entry: Entry) -> int:
        """Note a request.

        Returns:
            How many of this model name there are now.
        """
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()
            return sum(other.model == entry.model for other in self._entries)

    def count_tokens(self, entry: Entry, tokens: int) -> None:
        """Note what is about to be sent."""
        with self._changed:
            entry.tokens += tokens
            self._changed.notify_all()

    def end(self, entry: Entry, outcome: Outcome) -> None:
        """Note what became of it; only the first outcome counts."""
        with self._changed:
            entry.outcome = entry.outcome or outcome
            self._changed.notify_all()
