"""What visitors do, over and over: start runs, watch them, leave them, stop them; and what they must have seen."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from random import Random
from typing import TypeAlias

import httpx2

from tailrace.errors import TailraceError
from tailrace.wire.sse import Decoder, ServerSentEvent
from tests.chaos.readings import Reading, assert_exact, follow, read, start
from tests.soak.sites import Site

__all__ = ["VISITS", "Visitor"]

_VISIT_SECONDS = 90.0
_POLL_SECONDS = 0.2
_SHORT, _LONG = (3, 20), (80, 250)
#: A run that will not end by itself while somebody still looks at it.
_ENDLESS = "async 100000 15"


class Visitor:
    """One at a time of everything that is done at a site; every visit has an owner of its own.

    Attributes:
        faults: What must never be.
    """

    def __init__(self, site: Site, client: httpx2.AsyncClient, *, name: str, tally: Counter[str]) -> None:
        """Who is always the same under the same name."""
        self.faults: list[str] = []
        self._site = site
        self._client = client
        self._name = name
        self._random = Random(name)  # noqa: S311  which visit is next
        self._tally = tally
        self._visits = 0

    async def visit_everything(self) -> None:
        """Do everything once."""
        for what in VISITS:
            await self._visit(what.__name__, what(self))

    async def visit_until(self, deadline: float) -> None:
        """Do this and that until `deadline`, on the monotonic clock, and what was begun to its end."""
        weights = list(VISITS.values())
        while time.monotonic() < deadline:
            [what] = self._random.choices(list(VISITS), weights)
            await self._visit(what.__name__, what(self))

    async def stay(self, seconds: float) -> None:
        """Watch one run all the time."""
        await self._visit("stay", self._watch_one_run(round(seconds * 2)), more_seconds=seconds)

    async def _visit(self, name: str, what: Awaitable[None], *, more_seconds: float = 0) -> None:
        """Do one thing, and note what was wrong with it."""
        self._visits += 1
        self._tally[f"{self._site.name} visits"] += 1
        self._client.headers["x-owner"] = f"{self._name} {self._visits}"
        try:
            async with asyncio.timeout(_VISIT_SECONDS + more_seconds):
                await what
        except* (AssertionError, TailraceError, TimeoutError, httpx2.HTTPError) as errors:
            self.faults += [f"{self._name} {name}: {error!r}" for error in errors.exceptions]

    # The visits ------------------------------------------------------------------------------------------------------

    async def _watch_one_run(self, words: int) -> None:
        await self._watch(await self._start(f"async {words} 2"), end="run.completed", words=words)

    async def watch_a_run(self) -> None:
        """Three watch it: where it is produced, elsewhere, and one who comes and goes."""
        message, words = self._message("async", "async", "sync")
        await self._watch(await self._start(message), end="run.completed", words=words)

    async def watch_a_run_fail(self) -> None:
        """It fails after its last word."""
        message, words = self._message("fails")
        await self._watch(await self._start(message), end="run.failed", words=words)

    async def leave_a_run_alone(self) -> None:
        """Nobody reads before it has ended."""
        run_id = await self._start("async 40 20")
        # That nobody is there for so long is what this is about.
        await asyncio.sleep(3)
        await self._watch(run_id, end="run.completed", words=40)

    async def cancel_a_run(self) -> None:
        """Somebody stops it elsewhere while others read."""
        run_id = await self._start(_ENDLESS)
        async with self._watching(run_id, end="run.cancelled") as readings:
            for reading in readings:
                await reading.until_last(self._random.randint(3, 60))
            reply = await self._client.post(f"{self._url()}/runs/{run_id}/cancel")
            assert reply.json()["accepted"]

    async def repeat_a_key(self) -> None:
        """One key, posted several times at once and once more at the end, is one run."""
        message, words = self._message("async")
        first, *others = await asyncio.gather(*(self._start(message, key="again") for _ in range(4)))
        assert set(others) == {first}
        await self._watch(first, end="run.completed", words=words)
        assert await self._start(message, key="again") == first

    async def fail_at_once(self) -> None:
        """A run that fails before its first word never was, and its key is free."""
        url = self._url()
        reply = await self._client.post(
            f"{url}/chat", json={"message": "fails-at-once 1 20"}, headers={"idempotency-key": "free"}
        )
        assert reply.status_code == 500, reply.status_code
        message, words = self._message("async")
        await self._watch(await self._start(message, key="free"), end="run.completed", words=words)

    async def ask_for_a_document(self) -> None:
        """The answer is one document; another one is made of the run while it goes on."""
        message, words = self._message("async", lengths=(_SHORT,))
        body = {"message": message, "conversation_id": "documents"}
        run_id = await self._start(_ENDLESS)
        reply = await self._client.post(f"{self._url()}/chat", json=body, headers={"accept": "application/json"})
        assert reply.status_code == 200, reply.status_code
        assert reply.json()["status"] == "completed"
        _assert_counted(reply.json()["text"], words)
        inspected = await self._client.get(f"{self._url()}/runs/{run_id}")
        assert inspected.json()["status"] == "running"
        _assert_counted(inspected.json()["text"])
        await self._client.post(f"{self._url()}/runs/{run_id}/cancel")
        await self._watch(run_id, end="run.cancelled")

    async def read_a_feed(self) -> None:
        """Several runs on one stream, and one that begins in the thread while it is open."""
        thread = "a conversation"
        counts: dict[str, int] = {}
        for _ in range(3):
            message, words = self._message("async")
            counts[await self._start(message, thread=thread)] = words
        cursors = ",".join(f"{run_id}:0" for run_id in counts)
        texts = dict.fromkeys(counts, "")
        ended: set[str] = set()
        async with self._events("GET", f"/runs/feed?runs={cursors}&thread={thread}") as events:
            async for event in events:
                if len(counts) == 3:
                    message, words = self._message("async", lengths=(_SHORT,))
                    counts[await self._start(message, thread=thread)] = words
                run_id, data = (event.id or "").rpartition(":")[0], json.loads(event.data)
                texts[run_id] = texts.get(run_id, "") + data.get("delta", "")
                if data["type"] == "run.completed":
                    ended.add(run_id)
                    if ended == set(counts):
                        break
        assert set(texts) == set(counts)
        for run_id, words in counts.items():
            _assert_counted(texts[run_id], words)

    async def leave_what_ends_without_readers(self) -> None:
        """The only reader goes, sometimes by way of another worker, and the run ends."""
        run_id = await self._start_on_terms(_ENDLESS, on_disconnect="cancel", grace_seconds=2)
        if self._random.random() < 0.5:
            reading = Reading(f"leaver of {run_id}")
            elsewhere = asyncio.create_task(read(reading, self._client, [self._url()], run_id))
            await reading.until_last(20)
            elsewhere.cancel()
            await asyncio.wait({elsewhere})
        # Whoever asks for the log is a reader; the list is asked instead.
        while run_id in await self._active_runs():  # noqa: ASYNC110  it is another process's
            await asyncio.sleep(_POLL_SECONDS)
        await self._watch(run_id, end="run.cancelled")

    async def come_back_to_what_ends_without_readers(self) -> None:
        """Somebody is back in time."""
        words = self._random.randint(*_LONG)
        run_id = await self._start_on_terms(f"async {words} 20", on_disconnect="cancel", grace_seconds=5)
        await self._watch(run_id, end="run.completed", words=words)

    async def watch_a_run_time_out(self) -> None:
        """It takes longer than it may."""
        run_id = await self._start_on_terms(_ENDLESS, timeout_seconds=self._random.uniform(0.5, 3))
        await self._watch(run_id, end="run.failed")

    async def stream_without_a_log(self) -> None:
        """A source for one reader, who may leave."""
        words = self._random.randint(*_SHORT)
        leave_at = self._random.choice([2, 1_000])
        texts: list[str] = []
        async with self._events("GET", f"/bare?message=async+{words}+20") as events:
            async for event in events:
                texts.append(json.loads(event.data).get("delta", ""))
                if len(texts) == leave_at:
                    break
        _assert_counted("".join(texts), words if leave_at == 1_000 else None)

    async def read_tokens(self) -> None:
        """In a dialect that has to remember, with a pause in the middle."""
        message, words = self._message("async", lengths=(_SHORT,))
        run_id = await self._start(message)
        texts: list[str] = []
        last = ""
        for leave_at in (3, 1_000):
            headers = {"last-event-id": last} if last else {}
            path = f"/runs/{run_id}/events?dialect=tokens"
            async with self._events("GET", path, headers=headers) as events:
                async for event in events:
                    last = event.id or last
                    if event.data != "[DONE]":
                        texts.append(json.loads(event.data).get("token", ""))
                    if len(texts) == leave_at:
                        break
        _assert_counted("".join(texts), words)

    async def ask_for_what_is_not_there(self) -> None:
        """Unknown runs, another's run, and cursors that are none."""
        message, words = self._message("async")
        run_id = await self._start(message)
        url = self._url()
        replies = [
            await self._client.get(f"{url}/runs/aaaaaaaaaaaaaaaaaaaaaaaaaa/events"),
            await self._client.get(f"{url}/runs/{run_id}/events", headers={"x-owner": "a stranger"}),
            await self._client.post(f"{url}/runs/{run_id}/cancel", headers={"x-owner": "a stranger"}),
            await self._client.get(f"{url}/runs/{run_id}/events", headers={"last-event-id": "no cursor"}),
        ]
        assert [reply.status_code for reply in replies] == [404, 404, 404, 400]
        await self._watch(run_id, end="run.completed", words=words)

    # What they are made of -------------------------------------------------------------------------------------------

    def _url(self) -> str:
        return self._random.choice(self._site.urls)

    def _message(self, *kinds: str, lengths: Sequence[tuple[int, int]] = (_SHORT, _LONG)) -> tuple[str, int]:
        words = self._random.randint(*self._random.choice(lengths))
        return f"{self._random.choice(kinds)} {words} {self._random.choice([12, 20])}", words

    async def _start(self, message: str, *, key: str | None = None, thread: str | None = None) -> str:
        self._tally[f"{self._site.name} starts"] += 1
        if thread is None:
            return await start(self._client, self._url(), message, key=key)
        body = {"message": message, "conversation_id": thread}
        async with self._client.stream("POST", f"{self._url()}/chat", json=body) as response:
            return _run_id_of(response)

    async def _start_on_terms(
        self, message: str, *, on_disconnect: str = "detach", grace_seconds: float = 0, timeout_seconds: float = 600
    ) -> str:
        self._tally[f"{self._site.name} starts"] += 1
        terms: dict[str, str] = {
            "message": message,
            "thread": "on terms",
            "on_disconnect": on_disconnect,
            "grace_seconds": str(grace_seconds),
            "timeout": str(timeout_seconds),
        }
        async with self._client.stream("POST", f"{self._url()}/terms", params=terms) as response:
            return _run_id_of(response)

    async def _active_runs(self) -> list[str]:
        reply = await self._client.get(f"{self._url()}/runs/", params={"thread": "on terms"})
        return [run["run_id"] for run in reply.raise_for_status().json()["runs"]]

    async def _watch(self, run_id: str, *, end: str, words: int | None = None) -> None:
        async with self._watching(run_id, end=end, words=words):
            pass

    @asynccontextmanager
    async def _watching(self, run_id: str, *, end: str, words: int | None = None) -> AsyncGenerator[list[Reading]]:
        """Several read the run from its beginning; on leaving they have read the same, to this end."""
        urls = self._site.urls
        own, elsewhere, restless = (Reading(f"{kind} of {run_id}") for kind in ("own", "elsewhere", "restless"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read(own, self._client, urls, run_id))
            tasks.create_task(read(restless, self._client, urls[::-1], run_id, restless=True))
            if self._site.runs is None:
                tasks.create_task(read(elsewhere, self._client, urls[::-1], run_id))
            else:
                tasks.create_task(follow(elsewhere, self._site.runs, run_id))
            yield [own, elsewhere, restless]
        assert_exact([own, elsewhere, restless], end=end, words=words)
        self._tally[f"{self._site.name} readings"] += 3
        self._tally[f"{self._site.name} events read"] += own.last + elsewhere.last + restless.last
        self._tally[f"{self._site.name} times left and back"] += restless.resumes

    @asynccontextmanager
    async def _events(
        self, method: str, path: str, *, headers: dict[str, str] | None = None
    ) -> AsyncGenerator[AsyncIterator[ServerSentEvent]]:
        async with AsyncExitStack() as stack:
            response = await stack.enter_async_context(
                self._client.stream(method, f"{self._url()}{path}", headers=headers or {})
            )
            assert response.status_code == 200, response.status_code
            yield await stack.enter_async_context(aclosing(_decoded(response)))


def _run_id_of(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.status_code
    return str(response.headers["location"].split("/")[2])


async def _decoded(response: httpx2.Response) -> AsyncGenerator[ServerSentEvent]:
    decoder = Decoder()
    async for chunk in response.aiter_raw():
        for event in decoder.feed(chunk):
            yield event


def _assert_counted(text: str, words: int | None = None) -> None:
    """The text is `w1 w2 w3 …` without a hole, so far or, with `words`, to its end."""
    said = text.split()
    assert said == [f"w{number}" for number in range(1, len(said) + 1)], said
    assert words is None or len(said) == words, (len(said), words)


_Visit: TypeAlias = Callable[[Visitor], Coroutine[None, None, None]]
#: What visitors do, and how often in proportion.
VISITS: dict[_Visit, int] = {
    Visitor.watch_a_run: 6,
    Visitor.watch_a_run_fail: 1,
    Visitor.leave_a_run_alone: 2,
    Visitor.cancel_a_run: 2,
    Visitor.repeat_a_key: 2,
    Visitor.fail_at_once: 1,
    Visitor.ask_for_a_document: 2,
    Visitor.read_a_feed: 2,
    Visitor.leave_what_ends_without_readers: 1,
    Visitor.come_back_to_what_ends_without_readers: 1,
    Visitor.watch_a_run_time_out: 1,
    Visitor.stream_without_a_log: 1,
    Visitor.read_tokens: 1,
    Visitor.ask_for_what_is_not_there: 1,
}
