"""The web server of an example, in a process of its own, and what its answers look like to a test."""

import contextlib
from collections.abc import Generator, Mapping
from typing import NamedTuple

import msgspec

from tests.examples.program import Program
from tests.integration.support.client import EventReader, Reply, fetch

__all__ = ["LISTENING", "PATIENCE_MS", "Site", "post_json", "serving", "until_data"]

LISTENING = r"running on http://127\.0\.0\.1:(\d+)"
#: How long a page may take to show what it should.
PATIENCE_MS = 20_000


class Site(NamedTuple):
    """Where the example listens, and the program, for what it says."""

    port: int
    program: Program

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(target: str, environment: Mapping[str, str] | None = None) -> Generator[Site]:
    """The application `target`, as `python -m uvicorn` serves it in the folder of examples."""
    with Program("-m", "uvicorn", target, "--port", "0", environment=environment or {}) as program:
        yield Site(int(program.until_says(LISTENING)[1]), program)


def post_json(port: int, target: str, value: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Send a value as JSON; the whole reply."""
    sent = {"content-type": "application/json", **(headers or {})}
    return fetch(port, "POST", target, sent, msgspec.json.encode(value))


def until_data(reader: EventReader, part: str) -> str:
    """Read on until an event's data has this somewhere; the data."""
    while part not in (data := reader.next().data):
        pass
    return data
