"""A user's page: it says something in a conversation and reads the answer to its end, whichever worker that takes."""

import asyncio
import contextlib
import itertools
import re
import secrets
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import httpx2
import msgspec

from tailrace.events import TERMINAL_TYPES
from tailrace.wire.sse import Decoder, ServerSentEvent
from tests.tenants.people import User
from tests.tenants.site import Worker

__all__ = ["FORMS", "Form", "Heard", "Talk"]

#: How a page asks: for events of this dialect, which it resumes by the run's URL or by repeating its request, or for
#: one document.
Form: TypeAlias = Literal["native", "tokens", "json"]
FORMS: tuple[Form, ...] = ("native", "tokens", "json")

#: Between two attempts, as every client leaves a pause.
_RETRY_SECONDS = 0.1
_BOUND_SECONDS = 40.0
_EARLY = re.compile(r"/runs/([^/]+)/")


class Heard(msgspec.Struct):
    """What a page has seen of one answer.

    Attributes:
        run_id: The run.
        text: What it said.
        end: Its status at its end; empty before.
        failure: Why it is not whole.
        resumes: How often the page had to come back.
        numbers: Of the events, in the dialects that number them.
    """

    run_id: str = ""
    text: str = ""
    end: str = ""
    failure: str = ""
    resumes: int = 0
    numbers: list[int] = []


class Talk:
    """One conversation of one user.

    Attributes:
        user: Whose it is.
        conversation_id: The client's name for it.
        said: What the user has said, in order.
        heard: What was answered.
    """

    def __init__(self, client: httpx2.AsyncClient, user: User, conversation_id: str) -> None:
        """Nothing is said yet."""
        self.user = user
        self.conversation_id = conversation_id
        self.said: list[str] = []
        self.heard: list[Heard] = []
        self._client = client

    async def say(self, text: str, workers: Sequence[Worker], form: Form = "native", **others: object) -> Heard:
        """Say something to the first of the workers, and go to the next one whenever that fails."""
        heard = Heard()
        self.said.append(text)
        self.heard.append(heard)
        body = {"message": text, "conversation_id": self.conversation_id, **others}
        attempt = _Attempt(self._client, self.user, body, form, heard)
        async with asyncio.timeout(_BOUND_SECONDS):
            for worker in itertools.cycle(workers):
                with contextlib.suppress(httpx2.TransportError):
                    await attempt.make(worker.url)
                if heard.end:
                    return heard
                heard.resumes += 1
                await asyncio.sleep(_RETRY_SECONDS)
        raise AssertionError("there is always another worker")

    async def get(self, worker: Worker, path: str = "", **query: str) -> httpx2.Response:
        """The conversation, or something below it."""
        url = f"{worker.url}/conversations/{self.conversation_id}{path}"
        return await self._client.get(url, params=query, headers=self.user.headers)

    async def log(self, worker: Worker, run_id: str) -> Heard:
        """What the log of a run says, to whoever comes when all is over."""
        heard = Heard(run_id=run_id)
        url = f"{worker.url}/runs/{run_id}/events?merge=0"
        response = await self._client.get(url, headers=self.user.headers)
        assert response.status_code == 200, response.text
        for event in Decoder().feed(response.content):
            _take_native(heard, event)
        return heard


class _Attempt:
    """One question, asked until it is answered: with one idempotency key, so that it is one question."""

    def __init__(
        self, client: httpx2.AsyncClient, user: User, body: dict[str, object], form: Form, heard: Heard
    ) -> None:
        self._client = client
        self._body = body
        self._form = form
        self._heard = heard
        self._headers = {**user.headers, "idempotency-key": secrets.token_urlsafe(16)}
        self._last_event_id = ""
        self._where = ""

    async def make(self, url: str) -> None:
        if self._form == "json":
            await self._document(url)
        else:
            await self._events(url)

    async def _document(self, url: str) -> None:
        headers = {**self._headers, "accept": "application/json"}
        response = await self._client.post(f"{url}/chat?dialect=tokens", json=self._body, headers=headers)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        heard = self._heard
        heard.run_id = _run_in(response)
        heard.text, heard.end = document["response"], document["status"]
        heard.failure = document.get("error", {}).get("code", "")

    async def _events(self, url: str) -> None:
        headers = dict(self._headers)
        if self._last_event_id:
            headers["last-event-id"] = self._last_event_id
        request: dict[str, Any] = {"method": "POST", "url": f"{url}/chat?dialect={self._form}", "json": self._body}
        if self._form == "native" and self._where:
            request = {"method": "GET", "url": f"{url}{self._where}"}
        decoder = Decoder(last_event_id=self._last_event_id)
        async with self._client.stream(**request, headers=headers) as response:
            if response.status_code != 200:
                await response.aread()
                raise AssertionError(f"{request} {headers}: {response.status_code} {response.text}")
            self._heard.run_id = _run_in(response)
            self._where = response.headers["location"]
            async for chunk in response.aiter_raw():
                for event in decoder.feed(chunk):
                    (_take_native if self._form == "native" else _take_tokens)(self._heard, event)
                self._last_event_id = decoder.last_event_id


def _run_in(response: httpx2.Response) -> str:
    found = _EARLY.search(response.headers["location"])
    assert found is not None
    return found[1]


def _take_native(heard: Heard, event: ServerSentEvent) -> None:
    assert not heard.end, event
    assert event.event not in {"reset", "reconnect"}, event
    heard.numbers.append(int(event.id))
    data: dict[str, Any] = msgspec.json.decode(event.data)
    if event.event == "text.delta":
        heard.text += data["delta"]
    if event.event in TERMINAL_TYPES:
        heard.end = event.event.removeprefix("run.")
        heard.failure = data.get("reason") or data.get("code") or ""


def _take_tokens(heard: Heard, event: ServerSentEvent) -> None:
    assert heard.end != "completed", event
    if event.data == "[DONE]":
        heard.end = heard.end or ("failed" if heard.failure else "completed")
        return
    data: dict[str, Any] = msgspec.json.decode(event.data)
    heard.text += data.get("token", "")
    if "error" in data:
        heard.failure = data["error"]["code"]
        heard.text = heard.text.removesuffix(data["error"]["message"]).removesuffix("\n\n")
