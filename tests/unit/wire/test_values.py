"""Values of events in the JSON of a protocol."""

import pytest

from tailrace.events import Data, Event, Notice, Progress
from tailrace.wire.values import arguments_of, fields_of, given, iso_time, text_of


def test_what_is_not_there_is_absent_and_what_is_empty_is_not() -> None:
    assert given(a=None, b=0, c="", d=False, e=[]) == {"b": 0, "c": "", "d": False, "e": []}


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (Notice(code="slow", message="Wait.", ext={"a": 1}), {"code": "slow", "message": "Wait."}),
        (Progress(id="p", value=0.5), {"id": "p", "value": 0.5}),
        (Data("n", None), {"name": "n"}),
    ],
)
def test_the_fields_of_an_event_are_its_own(event: Event, fields: dict[str, object]) -> None:
    assert fields_of(event) == fields


@pytest.mark.parametrize(("value", "text"), [("a", "a"), ("", ""), ({"a": "ä"}, '{"a":"ä"}'), (None, "null"), (1, "1")])
def test_an_output_is_its_text_or_its_json(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "{}"), ({"a": 1}, '{"a":1}'), ("a", '"a"'), (0, "0")])
def test_arguments_are_json(value: object, text: str) -> None:
    assert arguments_of(value) == text


def test_times_are_told_in_utc() -> None:
    assert iso_time(1_795_173_052_468) == "2026-11-20T11:10:52.468+00:00"
    with pytest.raises(OverflowError):
        iso_time(10**18)
