"""What a source may yield, as other libraries spell it: each form is one event, or says nothing."""

from typing import Any

import pytest
from fastapi.sse import ServerSentEvent as FastAPIEvent
from pydantic import BaseModel
from sse_starlette import JSONServerSentEvent, ServerSentEvent

from tailrace import events
from tailrace.errors import SourceInvalidError
from tailrace.events import Data, Event, TextDelta
from tailrace.runtime.source import check_source, discard, open_source, to_event


class Place(BaseModel):
    city: str


class Plain:
    """As a frame is read by other clients: no comment, and the name filled in."""

    def __init__(self, **fields: object) -> None:
        self.data = self.event = self.id = self.retry = None
        vars(self).update(fields)


class Text(str):
    """Text as LangChain has it."""

    __slots__ = ()


FORMS: dict[str, tuple[object, Event]] = {
    "text of a class of its own": (Text("a"), TextDelta("a")),
    "text": ("a", TextDelta("a")),
    "an event": (events.Status("a"), events.Status("a")),
    "name and data": ({"event": "x", "data": [1]}, Data("x", [1])),
    "name and nothing, on purpose": ({"event": "x", "data": None}, Data("x", None)),
    "data alone": ({"data": "a"}, Data("message", "a")),
    "data that is empty": ({"data": ""}, Data("message", "")),
    "data with an empty name": ({"event": "", "data": 1}, Data("message", 1)),
    "data without a name": ({"event": None, "data": 1}, Data("message", 1)),
    "all there is": ({"event": "x", "data": 1, "id": "7", "retry": 5, "comment": "c"}, Data("x", 1)),
    "an object": (ServerSentEvent("a\nb", event="x", id="7", retry=5, comment="c"), Data("x", "a\nb")),
    "an object without a name": (ServerSentEvent("a"), Data("message", "a")),
    "an object with a value": (ServerSentEvent({"a": 1}), Data("message", {"a": 1})),
    "an object that made JSON": (JSONServerSentEvent({"a": 1}, event="x"), Data("x", '{"a":1}')),
    "an object of FastAPI": (FastAPIEvent(data={"a": 1}, event="x", id="7"), Data("x", {"a": 1})),
    "an object of FastAPI with text": (FastAPIEvent(data='a "b"\n'), Data("message", '"a \\"b\\"\\n"')),
    "an object of FastAPI with raw text": (FastAPIEvent(raw_data="a", event="x"), Data("x", "a")),
    "an object of FastAPI with empty text": (FastAPIEvent(raw_data=""), Data("message", "")),
    "an object of FastAPI with a model": (FastAPIEvent(data=Place(city="Rome")), Data("message", {"city": "Rome"})),
    "an object of FastAPI with a number": (FastAPIEvent(data=0), Data("message", 0)),
    "an object that was read": (Plain(event="message", data="a"), Data("message", "a")),
}


@pytest.mark.parametrize(("item", "event"), FORMS.values(), ids=FORMS)
def test_each_form_is_one_event(item: object, event: Event) -> None:
    assert to_event(item) == event


NOTHING: dict[str, object] = {
    "empty text": "",
    "a comment": {"comment": "ping"},
    "an id": {"id": "7"},
    "a delay": {"retry": 3_000},
    "a name without data": {"event": "x"},
    "an object with a comment": ServerSentEvent(comment="ping"),
    "an object with a name": ServerSentEvent(event="x"),
    "an object of FastAPI with a comment": FastAPIEvent(comment="ping"),
    "an object of FastAPI with a delay": FastAPIEvent(retry=3_000),
}


@pytest.mark.parametrize("item", NOTHING.values(), ids=NOTHING)
def test_what_no_reader_would_dispatch_says_nothing(item: object) -> None:
    assert to_event(item) is None


GARBAGE: dict[str, tuple[Any, str]] = {
    "an empty dict": ({}, "dict"),
    "another key": ({"data": 1, "sep": "a"}, "dict"),
    "only another key": ({"text": "a"}, "dict"),
    "a name that is none": ({"event": 5, "data": 1}, "dict"),
    "a name that breaks the line": ({"event": "x\ny", "data": 1}, "an event name"),
    "an object whose name breaks the line": (ServerSentEvent("a", event="x\rid: 7"), "an event name"),
    "an object whose name is none": (Plain(event=5, data="a"), "an event name"),
    "an object with some of it": (Place(city="Rome"), "Place"),
    "a number": (5, "int"),
}


@pytest.mark.parametrize(("item", "type_name"), GARBAGE.values(), ids=GARBAGE)
def test_anything_else_is_refused_by_its_type(item: object, type_name: str) -> None:
    with pytest.raises(SourceInvalidError) as caught:
        to_event(item)

    assert caught.value.type_name == type_name


def test_text_of_a_class_of_its_own_is_text_in_json() -> None:
    event = to_event(Text("a"))

    assert event is not None
    assert events.encode(event) == b'{"type":"text.delta","delta":"a"}'


@pytest.mark.parametrize("is_read", [False, True])
async def test_a_run_of_a_framework_that_was_not_used_is_cancelled(is_read: bool) -> None:
    run = Run()
    check_source(run)
    if is_read:
        await open_source(run)

    await discard(run)

    assert run.cancelled == 1


class Run:
    """As the OpenAI Agents SDK has it: it goes on by itself."""

    __module__ = "agents.result"

    def __init__(self) -> None:
        self.cancelled = 0

    def stream_events(self) -> None:
        """Never read."""

    def cancel(self) -> None:
        self.cancelled += 1


def test_a_dict_with_other_keys_is_told_what_is_expected() -> None:
    with pytest.raises(SourceInvalidError, match=r'got dict, expected str, .* or \{"event": name, "data": value\}$'):
        to_event({"text": "a"})


@pytest.mark.parametrize("item", [b"data: a\n\n", bytearray(b"a")])
def test_bytes_are_refused_with_what_to_do(item: object) -> None:
    with pytest.raises(SourceInvalidError, match="decode bytes, and leave"):
        to_event(item)
