"""Testing tools for those who build on tailrace, or put another log store under it.

They need no test framework, except that the tests of `StoreSuite` are coroutines, for a runner that awaits them.
"""

from tailrace.testing.asgi import AsgiClient, AsgiResponse
from tailrace.testing.clock import FakeClock
from tailrace.testing.collect import collect
from tailrace.testing.cuts import cut_anywhere
from tailrace.testing.faulty_store import FaultyStore
from tailrace.testing.follower import HttpFollower
from tailrace.testing.store_suite import StoreSuite, store_suite

__all__ = [
    "AsgiClient",
    "AsgiResponse",
    "FakeClock",
    "FaultyStore",
    "HttpFollower",
    "StoreSuite",
    "collect",
    "cut_anywhere",
    "store_suite",
]
