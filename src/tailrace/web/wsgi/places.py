"""How many streams may be open at once: each holds a thread of the server, and other requests need some as well."""

import threading
from typing import ClassVar

from tailrace.web.errors import RequestInvalidError

__all__ = ["Places", "StreamsFullError"]


class StreamsFullError(RequestInvalidError):
    """All places are taken; nothing was started."""

    code: ClassVar[str] = "too_many_streams"

    def __init__(self) -> None:
        """Say so."""
        super().__init__("Too many streams are open.", status=503)


class Places:
    """Counts who has one.

    Attributes:
        taken: How many are taken.
    """

    def __init__(self, limit: int | None) -> None:
        """Allow `limit` at a time, or any number."""
        self._limit = limit
        self.taken = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take a place; to be given back.

        Raises:
            StreamsFullError: There is none.
        """
        with self._lock:
            if self._limit is not None and self.taken >= self._limit:
                raise StreamsFullError
            self.taken += 1

    def give_back(self) -> None:
        """Leave a place to the next."""
        with self._lock:
            self.taken -= 1
