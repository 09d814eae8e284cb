"""A stream that has to be entered is entered once, when it is read, and left when it is closed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tailrace.adapters.entering import Entered
from tailrace.errors import SourceInvalidError
from tests.unit.adapters.streams import ProviderScript


@pytest.fixture
def steps() -> list[str]:
    return []


@asynccontextmanager
async def manager(steps: list[str], handle: object) -> AsyncGenerator[object]:
    """Notes what is done with it."""
    steps.append("entered")
    try:
        yield handle
    finally:
        steps.append("left")


async def test_it_is_entered_with_the_first_item_and_left_at_the_end(steps: list[str]) -> None:
    script = ProviderScript("a", "b")
    stream = Entered(manager(steps, script))
    assert (steps, stream.handle) == ([], None)

    assert [item async for item in stream] == ["a", "b"]
    assert (steps, stream.handle) == (["entered"], script)

    await stream.aclose()
    assert steps == ["entered", "left"]


async def test_what_was_never_read_is_never_entered(steps: list[str]) -> None:
    await Entered(manager(steps, ProviderScript())).aclose()

    assert steps == []


async def test_what_gives_no_stream_is_refused_and_left(steps: list[str]) -> None:
    stream = Entered(manager(steps, object()))

    with pytest.raises(SourceInvalidError, match="expected a stream"):
        await anext(stream)
    await stream.aclose()

    assert steps == ["entered", "left"]
