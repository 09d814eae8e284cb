"""What the integration tests share: a way to serve an application that is stopped in any case."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.support.server import AppServer


@pytest.fixture
def serve() -> Iterator[Callable[..., AppServer]]:
    """Serve an application until the test ends; arguments as for `AppServer`."""
    with ExitStack() as servers:
        yield lambda *args, **options: servers.enter_context(AppServer(*args, **options))
