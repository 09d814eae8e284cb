"""The client's `reduce` makes of any log what `fold.reduce` makes of it."""

import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import events, fold
from tailrace.events import Entry, Event
from tests.missing import missing
from tests.unit.strategies import logs, merged_variants, numbered

_PACKAGE = Path(__file__).parents[2] / "js" / "client"
_DRIVER = Path(__file__).parent / "reduce_driver.mjs"


class Reducer:
    """The client's `reduce` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def reduce(self, log: list[Entry]) -> dict[str, Any]:
        """The state that a log ends in, with the fields that JSON leaves out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(list(map(_told, log))).decode() + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = msgspec.json.decode(self._process.stdout.readline())
        assert answer["isIdle"] is True
        state: dict[str, Any] = answer["state"]
        return state


@pytest.fixture(scope="module")
def reducer(require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Generator[Reducer]:
    node = require_program("node")
    esbuild = _PACKAGE / "node_modules" / ".bin" / "esbuild"
    if not esbuild.exists():
        missing("the tools of the npm package are not installed: make install")
    module = tmp_path_factory.mktemp("reduce") / "reduce.mjs"
    source = _PACKAGE / "src" / "reduce.ts"
    subprocess.run(
        [esbuild, source, f"--outfile={module}", "--bundle", "--format=esm", "--log-level=error"], check=True
    )
    command = [node, str(_DRIVER), module.as_uri()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Reducer(process)
        process.terminate()


@given(data=st.data())
def test_any_log_is_reduced_to_the_same_document(reducer: Reducer, data: st.DataObject) -> None:
    log = data.draw(logs)
    told = data.draw(merged_variants(log))

    state = reducer.reduce(told)

    assert _sparse(state) == _document(log)


def test_fields_of_a_state_that_an_event_left_out_before_are_taken_away(reducer: Reducer) -> None:
    done = events.TextDone(message_id="m", part_id="p", citations=["c"])
    log = numbered(
        [
            events.RunStarted(run_id="r", thread_id="t", model="m"),
            events.MessageStarted(message_id="m", name="Ada"),
            events.MessageStarted(message_id="m"),
            done,
            msgspec.structs.replace(done, citations=None),
            events.ToolStarted(call_id="c", name="n", title="t", executor="client"),
            events.ToolStarted(call_id="c", name="n"),
            events.ToolProgress(call_id="c", progress=0.5, output=1),
            events.ToolProgress(call_id="c"),
            events.ToolOutput(call_id="c", output=None),
            events.StateSnapshot(state={"a": None}),
            events.StateSnapshot(state=None),
        ]
    )

    assert _sparse(reducer.reduce(log)) == _document(log)


def test_names_that_every_object_has_are_names_like_others(reducer: Reducer) -> None:
    names = ["__proto__", "constructor", "toString"]
    content: list[Event] = []
    for name in names:
        content += [events.Data(name, 1), events.Data(name, 2), events.Data(name, 3, id="x")]
        content += [events.Progress(id=name, value=1), events.Opaque(name, b'{"type":"%b"}' % name.encode())]
    log = numbered(content)

    assert _sparse(reducer.reduce(log)) == _document(log)


def _told(entry: Entry) -> dict[str, Any]:
    """An event as a client has it."""
    event: dict[str, Any] = msgspec.json.decode(events.encode_record(entry.at_ms, entry.event))
    return {**event, "seq": entry.seq, **({} if entry.first is None else {"first": entry.first})}


def _document(log: list[Entry]) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fold.reduce(log)))
    return {"status": "running", **document}


def _sparse(state: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it from the server: what has its default is left out; inside of an event nothing is."""
    run = _without_defaults(state)
    if "messages" in run:
        run["messages"] = [_without_defaults(message) for message in run["messages"]]
        for message in run["messages"]:
            if "parts" in message:
                message["parts"] = [_without_defaults(part) for part in message["parts"]]
    if "steps" in run:
        run["steps"] = [_without_defaults(step) for step in run["steps"]]
    if "failure" in run:
        run["failure"] = _without_defaults(run["failure"])
    return run


def _without_defaults(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if not (value is False or value in (None, "", [], {}))}
