"""What type checkers say of the client: nothing here is run, mypy and pyright read it.

A line that is wrong on purpose says so to both; each of them fails if it finds nothing wrong with it.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Literal, assert_type

import httpx
import httpx2

from tailrace.client import (
    AsyncClient,
    AsyncClientRun,
    Attempt,
    Client,
    ClientRun,
    Connection,
    EventStream,
    Headers,
    open_stream,
)
from tailrace.events import Entry
from tailrace.fold import Reduced
from tailrace.wire.sse import ServerSentEvent

__all__: list[str] = []


def a_stream() -> None:
    stream = open_stream("https://example.com/", method="POST", json={"a": 1}, idle_seconds=None, max_attempts=3)
    assert_type(stream, EventStream)
    with stream as entered:
        assert_type(entered, EventStream)
        assert_type(iter(entered), Iterator[ServerSentEvent])
        for event in entered:
            assert_type(event, ServerSentEvent)
            assert_type(event.data, str)
    assert_type(stream.connection, Connection)
    assert_type(stream.connection.state, Literal["connecting", "open", "waiting", "closed"])
    assert_type(stream.connection.retry_at, float | None)
    assert_type(stream.last_event_id, str)


async def an_async_stream() -> None:
    async with open_stream("https://example.com/") as stream:
        assert_type(stream, EventStream)
        async for event in stream:
            assert_type(event, ServerSentEvent)


def anybodys_client() -> None:
    open_stream("/", client=httpx.Client())
    open_stream("/", client=httpx.AsyncClient())
    open_stream("/", client=httpx2.Client())
    open_stream("/", client=httpx2.AsyncClient())
    Client(http=httpx.Client())
    AsyncClient(http=httpx2.AsyncClient())


def headers_of_all_kinds() -> None:
    def by_function(attempt: Attempt) -> dict[str, str]:
        assert_type(attempt.number, int)
        assert_type(attempt.status, int | None)
        return {}

    async def by_task(_: Attempt) -> dict[str, str]:
        return {}

    kinds: list[Headers] = [{"authorization": "Bearer x"}, by_function, by_task]
    for headers in kinds:
        open_stream("https://example.com/", headers=headers)


def runs(client: Client) -> None:
    with client.start({"message": "hi"}, key="k", path="chat") as run:
        assert_type(run, ClientRun)
        assert_type(iter(run), Iterator[Entry])
        for entry in run:
            assert_type(entry, Entry)
        assert_type(run.id, str)
        assert_type(run.url, str)
        assert_type(run.cursor, int)
        assert_type(run.connection, Connection)
        assert_type(run.text(), str)
        assert_type(run.result(), Reduced)
        assert_type(run.cancel(), bool)
    assert_type(client.attach("x", after=3), ClientRun)
    assert_type(client.follow("x", after=3), Iterator[Entry])
    assert_type(client.cancel("x"), bool)
    assert_type(client.info("x"), Reduced)
    assert_type(client.open_stream("feed", dialect="raw", max_attempts=None), EventStream)


async def async_runs(client: AsyncClient) -> None:
    async with await client.start({"message": "hi"}) as run:
        assert_type(run, AsyncClientRun)
        assert_type(aiter(run), AsyncIterator[Entry])
        async for entry in run:
            assert_type(entry, Entry)
        assert_type(run.cursor, int)
        assert_type(await run.text(), str)
        assert_type(await run.result(), Reduced)
        assert_type(await run.cancel(), bool)
    assert_type(client.attach("x", after=3), AsyncClientRun)
    assert_type(client.follow("x"), AsyncIterator[Entry])
    assert_type(await client.cancel("x"), bool)
    assert_type(await client.info("x"), Reduced)
    assert_type(client.open_stream("feed"), EventStream)


def without_attempt() -> dict[str, str]:
    return {}


def misuse(client: Client) -> None:
    Client(http=httpx2.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncClient(http=httpx.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Client(patience=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_stream("/", client=object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_stream("/", idle_ms=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_stream("/", content=iter([b""]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_stream("/", headers=without_attempt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.attach("x", after="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
