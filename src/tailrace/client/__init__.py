"""The Python client: streams that are read to their real end, and the runs of a tailrace server.

It reads with httpx2 (`pip install 'tailrace[client]'`), or with any client of httpx2 or httpx that it is given.
"""

from typing import TYPE_CHECKING

from tailrace.client.async_runs import AsyncClient, AsyncClientRun
from tailrace.client.commands import Attempt, Connection, Policy
from tailrace.client.event_stream import EventStream, open_stream
from tailrace.client.run_requests import RESET
from tailrace.client.runs import Client, ClientRun
from tailrace.client.template import Headers

if TYPE_CHECKING:
    from tailrace.client.transport import ResumingTransport

__all__ = [
    "RESET",
    "AsyncClient",
    "AsyncClientRun",
    "Attempt",
    "Client",
    "ClientRun",
    "Connection",
    "EventStream",
    "Headers",
    "Policy",
    "ResumingTransport",
    "open_stream",
]


def __getattr__(name: str) -> object:
    """`ResumingTransport` is a class of httpx2's kind, which is needed only here.

    Raises:
        AttributeError: There is no such name.
        ImportError: httpx2 is not installed.
    """
    if name != "ResumingTransport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from tailrace.client.transport import ResumingTransport
    except ImportError as error:
        raise ImportError("ResumingTransport needs httpx2: pip install 'tailrace[client]'") from error
    return ResumingTransport
