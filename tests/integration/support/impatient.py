"""An agent and an application that do not wait for their store as long as others do, for servers in a process.

The agent's runs end when the process gets SIGUSR1. The application's store is `IMPATIENT_STORE` in the environment.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

from tailrace import Tailrace
from tailrace.chat.app import create_app
from tailrace.runtime.limits import Limits
from tailrace.stores.sqlite import file

__all__ = ["agent"]

_PACE_SECONDS = 0.02
_OUTAGE_SECONDS = 0.5
_LEASE_SECONDS = 0.5
_stop_requests: list[asyncio.Event] = []

# Five seconds for a lock are what a user wants and no test can wait for, again and again.
file.__dict__["_BUSY_SECONDS"] = 0.2


async def agent(_: str) -> AsyncIterator[str]:
    """Count until told to stop."""
    stop = asyncio.Event()
    _stop_requests.append(stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _stop_all)
    number = 0
    while not stop.is_set():
        number += 1
        yield f"{number} "
        await asyncio.sleep(_PACE_SECONDS)


def _stop_all() -> None:
    for stop in _stop_requests:
        stop.set()


def __getattr__(name: str) -> object:
    """The application is made when it is asked for, as the agent alone needs no store from here."""
    if name == "app":
        limits = Limits(outage_seconds=_OUTAGE_SECONDS)
        return create_app(agent, Tailrace(os.environ["IMPATIENT_STORE"], lease_seconds=_LEASE_SECONDS, limits=limits))
    raise AttributeError(name)
