"""The names of keys and channels, and how a text that may be missing is kept."""

from typing import NamedTuple

__all__ = ["Keys", "RunKeys", "packed", "unpacked"]


class RunKeys(NamedTuple):
    """The keys of one run, as `scripts` tells of them; the name of the stream is also that of the run's channel."""

    m: bytes
    s: bytes
    b: bytes
    n: bytes


class Keys:
    """All names, which begin with the same prefix. The braces are a cluster's hash tag: a run is on one node."""

    def __init__(self, prefix: str) -> None:
        """Take the prefix."""
        self._prefix = prefix
        self.secret = f"{prefix}:secret".encode()

    def run(self, run_id: str) -> RunKeys:
        """The keys of a run."""
        tag = f"{self._prefix}:{{{run_id}}}:".encode()
        return RunKeys(tag + b"m", tag + b"s", tag + b"b", tag + b"n")

    def signals(self, topic: str) -> bytes:
        """The channel of a topic."""
        return f"{self._prefix}:{{{topic}}}:c".encode()

    def open_runs(self, *, owner: str | None = None, thread: str | None = None) -> bytes:
        """The smallest index that has all open runs of an owner, a thread, or both."""
        if thread is not None:
            return f"{self._prefix}:open:thread:{thread}".encode()
        if owner is not None:
            return f"{self._prefix}:open:owner:{owner}".encode()
        return f"{self._prefix}:open:all".encode()

    def latest(self, thread: str, *, owner: str | None) -> bytes:
        """Names the newest run of an owner's thread."""
        whose = packed(owner)
        return b"%b:latest:%d:%b:%b" % (self._prefix.encode(), len(whose), whose, thread.encode())


def packed(text: str | None) -> bytes:
    """A text that may be missing, kept apart from an empty one."""
    return b"" if text is None else f"={text}".encode()


def unpacked(kept: bytes | None) -> str | None:
    """What `packed` was given."""
    return kept[1:].decode() if kept else None
