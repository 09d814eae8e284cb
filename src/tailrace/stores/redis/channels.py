"""Who in this process listens to which channel. What is published is decoded once, however many listen."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar

from tailrace.stores.contract import Batch, Hint, Stop
from tailrace.stores.redis.payload import decode_payload

__all__ = ["Channels"]

_T = TypeVar("_T")
_Table: TypeAlias = dict[bytes, dict[object, Callable[[_T], None]]]

_logger = logging.getLogger("tailrace")
_SHOWN_BYTES: Final = 64


class Channels:
    """The listeners of one store: hints of runs, and whoever hears signals."""

    def __init__(self, join: Callable[[bytes], None], part: Callable[[bytes], None]) -> None:
        """Take what to call when a channel gets its first listener, and when it has lost its last."""
        self._join = join
        self._part = part
        self._hints: _Table[Batch | None] = {}
        self._ears: _Table[str] = {}
        self._warned = False

    def subscribe(self, channel: bytes, hint: Hint) -> Stop:
        """Have `hint` called with every write that is published, and with `None` where nothing can be said."""
        return self._add(self._hints, channel, hint)

    def listen(self, channel: bytes, heard: Callable[[str], None]) -> Stop:
        """Have `heard` called with every text that is published."""
        return self._add(self._ears, channel, heard)

    def heard(self, channel: bytes, payload: bytes | None) -> None:
        """Tell the listeners of a channel; `None` means that it was subscribed to just now."""
        try:
            if channel in self._hints:
                _call_all(self._hints[channel], decode_payload(payload) if payload else None)
            elif payload is not None and channel in self._ears:
                _call_all(self._ears[channel], payload.decode())
        except ValueError:
            self._warn(channel)

    def _warn(self, channel: bytes) -> None:
        if not self._warned:
            name = channel[:_SHOWN_BYTES].decode(errors="replace")
            _logger.warning("something else publishes on the Redis channel %s: use another prefix", name)
        self._warned = True

    def _add(self, table: _Table[_T], channel: bytes, listener: Callable[[_T], None]) -> Stop:
        listeners = table.setdefault(channel, {})
        if not listeners:
            self._join(channel)
        # The same function may listen twice.
        key = object()
        listeners[key] = listener
        return partial(self._remove, table, channel, key)

    def _remove(self, table: _Table[_T], channel: bytes, key: object) -> None:
        listeners = table.get(channel, {})
        if listeners.pop(key, None) is not None and not listeners:
            del table[channel]
            self._part(channel)


def _call_all(listeners: dict[object, Callable[[_T], None]], news: _T) -> None:
    for listener in tuple(listeners.values()):
        try:
            listener(news)
        except Exception:
            # One listener's bug must not keep the others in the dark.
            _logger.exception("a listener failed")
