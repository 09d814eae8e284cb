"""What a source yields becomes what its run says: text, events, and chunks of answers, in any order."""

from typing import Any

import pytest

from tailrace.errors import SourceInvalidError
from tailrace.events import Data, Event, RunCompleted, RunFailed, TextDelta, ToolOutput, Usage
from tailrace.runtime.clock import SystemClock
from tailrace.runtime.intake import Intake
from tailrace.runtime.limits import Limits
from tailrace.runtime.producer import Producer
from tests.unit.adapters.streams import STOPPED, as_objects, chunk

HELLO, STOP = chunk({"content": "Hello"}), chunk({}, finish_reason="stop")
USED: dict[str, Any] = {"model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
CALL = chunk({"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "f", "arguments": "{}"}}]})
CALLS = chunk({}, finish_reason="tool_calls")
COUNT = Usage(input_tokens=5, output_tokens=1, model="m")


class Added(Producer):
    """Keeps what is added, and writes nothing."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__("run", _log, clock=SystemClock(), limits=Limits(), on_append=lambda _: None)

    def take(self, event: Event) -> None:
        self.events.append(event)


_log: Any = None


def taken(*items: object) -> tuple[Added, Intake]:
    added = Added()
    intake = Intake(added)
    for item in items:
        assert intake.take(item) is None
    return added, intake


def test_text_events_frames_and_chunks_may_be_mixed() -> None:
    added, intake = taken("a", "", TextDelta("b"), {"event": "w", "data": 1}, {"data": None}, HELLO, STOP, USED, "c")

    assert intake.end() == STOPPED
    assert added.events == [
        TextDelta("a"),
        TextDelta("b"),
        Data("w", 1),
        Data("message", None),
        TextDelta("Hello"),
        TextDelta("c"),
        COUNT,
    ]


@pytest.mark.parametrize("items", [(), ("a",), (TextDelta("a"),), ({"event": "w", "data": 1},)])
def test_a_source_without_chunks_just_ends(items: tuple[object, ...]) -> None:
    _, intake = taken(*items)

    assert intake.end() is None
    assert intake.failed(ConnectionResetError()) is None


@pytest.mark.parametrize("item", [RunCompleted(result=1), RunFailed(code="error", message="Sorry.")])
def test_a_terminal_event_is_given_back(item: Event) -> None:
    added, intake = taken()

    assert intake.take(item) is item
    assert added.events == []


@pytest.mark.parametrize("item", [5, None, b"a", ["a"], {}, {"text": "a"}, object(), as_objects({"text": "a"})])
def test_what_nobody_knows_is_named_by_its_type(item: object) -> None:
    _, intake = taken()

    with pytest.raises(SourceInvalidError, match=f"got {type(item).__name__}, expected str, "):
        intake.take(item)


def test_an_error_among_the_chunks_ends_the_run() -> None:
    added, intake = taken(HELLO)

    failure = intake.take({"type": "error", "error": {"type": "overloaded_error"}})

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_rate_limited"
    assert added.events == [TextDelta("Hello")]


def test_a_source_that_ends_within_an_answer_was_cut_off() -> None:
    _, intake = taken(HELLO, STOP, HELLO, "a")

    failure = intake.end()

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_truncated"


def test_what_is_raised_within_an_answer_is_the_providers_failure() -> None:
    added, intake = taken(HELLO | {"usage": USED["usage"]})

    failure = intake.failed(ConnectionResetError())

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_unavailable"
    assert added.events == [
        TextDelta("Hello"),
        Usage(input_tokens=5, output_tokens=1, model="m", estimated=True),
    ]


@pytest.mark.parametrize("items", [(HELLO,), (HELLO, STOP)], ids=["within an answer", "after it"])
def test_what_no_network_raises_is_the_sources_own(items: tuple[object, ...]) -> None:
    _, intake = taken(*items)

    assert intake.failed(LookupError("mine")) is None


def test_what_is_raised_after_an_answer_leaves_its_count() -> None:
    added, intake = taken(HELLO, STOP, USED)

    assert intake.failed(ConnectionResetError()) is None
    assert added.events == [TextDelta("Hello"), COUNT]


@pytest.mark.parametrize(
    ("after", "ending"),
    [
        ((), RunCompleted(finish_reason="tool_calls")),
        ((ToolOutput(call_id="t1", output=1),), RunCompleted()),
        ((ToolOutput(call_id="t1", output=1), HELLO, STOP), STOPPED),
    ],
)
def test_a_run_ends_in_calls_that_nobody_answered(after: tuple[object, ...], ending: Event) -> None:
    _, intake = taken(CALL, CALLS, *after)

    assert intake.end() == ending
