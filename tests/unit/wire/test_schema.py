"""What is documented of the frames is what the frames are."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tailrace.events import EVENT_TYPES, Entry, Event, encode_record
from tailrace.wire.dialects.registry import DIALECTS
from tailrace.wire.schema import event_kinds, item_schema
from tailrace.wire.sse import Decoder
from tests.unit.strategies import STRUCTS, logs, structs

#: What checks a value, for each kind of event. The types of jsonschema are known in part only.
SCHEMAS: dict[str | None, Any] = {kind.event: Draft202012Validator(kind.data or {}) for kind in event_kinds()}
known_events: st.SearchStrategy[Event] = st.one_of(*map(structs, STRUCTS))


def test_every_event_of_the_vocabulary_is_described() -> None:
    assert SCHEMAS.keys() == EVENT_TYPES


@given(known_events)
def test_an_event_is_as_its_schema_says(event: Event) -> None:
    document = msgspec.json.decode(encode_record(5, event))

    assert list(SCHEMAS[document["type"]].iter_errors(document)) == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_says_what_its_frames_are_without_referring_to_anything(dialect: str) -> None:
    schema = item_schema(DIALECTS[dialect].frame_kinds())

    Draft202012Validator.check_schema(schema)
    assert b'"$ref"' not in msgspec.json.encode(schema)


def test_a_frame_is_of_one_kind() -> None:
    validator: Any = Draft202012Validator(item_schema(DIALECTS["native"].frame_kinds()))

    assert validator.is_valid({"id": "1", "event": "text.delta", "data": "{}"})
    assert not validator.is_valid({"event": "text.other", "data": "{}"})
    assert not validator.is_valid({"event": "text.delta"})


@pytest.mark.parametrize("dialect", ["ai-sdk", "ag-ui", "openai-responses"])
@given(log=logs)
def test_a_frame_is_of_a_type_that_is_told(dialect: str, log: list[Entry]) -> None:
    schemas = [kind.data for kind in DIALECTS[dialect].frame_kinds() if kind.data is not None]
    told: Any = Draft202012Validator({"anyOf": schemas})
    encoder = DIALECTS[dialect].encoder(run_id="run")

    for event in Decoder().feed(b"".join(frame for entry in log for frame in encoder.encode(entry))):
        assert event.data == "[DONE]" or told.is_valid(msgspec.json.decode(event.data)), event.data
