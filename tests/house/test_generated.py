"""What is written by a tool is what the tool would write now."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tailrace.events import Entry, Event
from tailrace.fold import reduce
from tailrace.wire.dialects.native import DIALECT, NativeEncoder
from tailrace.wire.sse import Decoder
from tests.unit.strategies import STRUCTS, logs, structs
from tools.event_schema import ROOT, files, schema

SCHEMA = schema()
# The types of jsonschema are known in part only.
ENTRY: Any = Draft202012Validator(SCHEMA)
REDUCED: Any = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/Reduced"})


def test_generated_files_are_fresh() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in files().items() if path.read_text(encoding="utf-8") != text]

    assert stale == [], "make schema"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@given(st.one_of(*map(structs, STRUCTS)), st.none() | st.integers(1, 6))
def test_every_frame_holds_what_the_schema_says(event: Event, first: int | None) -> None:
    frames = NativeEncoder(run_id="run").encode(Entry(7, 5, event, first))

    (read,) = Decoder().feed(b"".join(frames))

    assert list(ENTRY.iter_errors(msgspec.json.decode(read.data))) == []


@given(logs)
def test_every_document_is_what_the_schema_says(log: list[Entry]) -> None:
    document = msgspec.json.decode(DIALECT.document(reduce(log)))

    assert list(REDUCED.iter_errors(document)) == []


def test_an_event_of_no_type_and_a_field_that_is_null_are_not_what_the_schema_says() -> None:
    told = {"type": "text.delta", "delta": "a", "at_ms": 1}

    assert ENTRY.is_valid({**told, "of": "a newer version"})
    assert not ENTRY.is_valid({**told, "type": "nothing"})
    assert not ENTRY.is_valid({**told, "part_id": None})
    assert not ENTRY.is_valid({"type": "text.delta", "delta": "a"})
