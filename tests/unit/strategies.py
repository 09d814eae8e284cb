"""Any event there is, logs as a run writes them, and the same logs with deltas merged."""

from collections.abc import Sequence
from itertools import chain, pairwise
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tailrace import events
from tailrace.events import Entry, Event, Opaque, Terminal
from tailrace.fold import merge
from tailrace.runtime.ids import IdFiller

#: Every struct of the vocabulary but `Opaque`, which stands for those that are in no vocabulary yet.
STRUCTS: list[type[msgspec.Struct]] = [struct for struct in get_args(Event) if struct is not Opaque]

# What ends lines somewhere, what JSON escapes, and what is more than one code point or more than two bytes.
ODD_TEXT = ["\0", "\r\n\r\n", "\u2028\u0085", "\ufeff", '"\\/', "e\u0301", "\U0001f469\u200d\U0001f680", "\ud7ff\ue000"]

text = st.text(max_size=6) | st.sampled_from(ODD_TEXT)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda values: st.lists(values, max_size=2) | st.dictionaries(text, values, max_size=2),
    max_leaves=4,
)

_LEAVES: dict[object, SearchStrategy[Any]] = {
    str: text,
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    NoneType: st.none(),
    Any: json_values,
}


def structs(struct: type[msgspec.Struct]) -> SearchStrategy[Any]:
    """Values of one struct, each field by its type."""
    return st.builds(struct, **{field.name: _values(field.type) for field in msgspec.structs.fields(struct)})


def _values(annotation: object) -> SearchStrategy[Any]:
    if annotation in _LEAVES:
        return _LEAVES[annotation]
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return st.sampled_from(arguments)
    if get_origin(annotation) is list:
        return st.lists(_values(arguments[0]), max_size=2)
    if get_origin(annotation) is dict:
        return st.dictionaries(text, _values(arguments[1]), max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return structs(annotation)
    return st.one_of(*map(_values, arguments))


any_event: SearchStrategy[Event] = st.one_of(*map(structs, STRUCTS))

#: One of each way to end.
TERMINALS: list[Terminal] = [
    events.RunCompleted(finish_reason="stop", result={"done": True}),
    events.RunFailed(code="timeout", message="The answer took too long.", correlation_id="x1"),
    events.RunCancelled(reason="user"),
    events.RunInterrupted(reason="worker_lost"),
    events.RunPaused(interrupts=[events.Interrupt(id="i1", kind="approval", call_id="c1")]),
]

_WHATEVER_ELSE_HAPPENS: list[Event] = [
    events.StepStarted(name="plan"),
    events.StepFinished(finish_reason="tool_calls"),
    events.MessageStarted(message_id="m2", role="tool"),
    events.MessageFinished(finish_reason="stop"),
    events.TextDelta("with more", ext={"logprob": -0.1}),
    events.TextDone(part_id="p1", citations=[{"url": "https://example.org"}]),
    events.ReasoningDone(signature="s"),
    events.ToolStarted(call_id="c1", name="get_weather", title="Weather"),
    events.ToolStarted(name="calculate"),
    events.ToolReady(call_id="c1", input={"city": "Rome"}),
    events.ToolReady(call_id="c2", name="look_up", input=[1]),
    events.ToolProgress(progress=0.5),
    events.ToolOutput(call_id="c1", output={"temperature": 21}),
    events.ToolError(call_id="c2", code="no_such_city", message="There is no such city."),
    events.Status("Thinking", level="info"),
    events.Thought("First the weather", step=1, total=2),
    events.Progress(id="load", value=0.25),
    events.Data("weather", {"unit": "C"}),
    events.Data("weather", {"unit": "F"}, id="w1"),
    events.UIAction({"type": "change_theme", "value": "dark"}),
    events.Suggestions(["Why?", "How?"]),
    events.Source(kind="url", url="https://example.org"),
    events.File(media_type="image/png", url="/files/1"),
    events.StateSnapshot(state={"step": 1}),
    events.StateDelta(patch=[{"op": "replace", "path": "/step", "value": 2}]),
    events.Usage(input_tokens=5, output_tokens=7, model="m"),
    events.Notice(code="slow", message="This takes longer than usual."),
    events.Snapshot(
        upto_seq=1,
        messages=[{"id": "m2", "role": "assistant", "parts": [{"type": "text", "id": "p1", "text": "so far"}]}],
    ),
    Opaque("later.word", b'{"type":"later.word","of":"all"}'),
]

# Two of everything: enough for parts, calls and messages to alternate, few enough for them to be met again.
_FIRST_DELTAS: list[Event] = [
    events.TextDelta(""),
    events.TextDelta("", message_id="m2"),
    events.TextDelta("", message_id="m2", part_id="p1"),
    events.ReasoningDelta(""),
    events.ReasoningDelta("", part_id="p1"),
    events.ToolArgsDelta(""),
    events.ToolArgsDelta("", call_id="c1"),
]
_PIECES = ["", "a", "bc ", *ODD_TEXT]


@st.composite
def _bursts(draw: DrawFn) -> list[Event]:
    """Deltas of one part that follow each other."""
    first = draw(st.sampled_from(_FIRST_DELTAS))
    pieces = draw(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=5))
    return [msgspec.structs.replace(first, delta=piece) for piece in pieces]


_stretches = st.one_of(_bursts(), st.lists(st.sampled_from(_WHATEVER_ELSE_HAPPENS), max_size=4))


def numbered(content: Sequence[Event]) -> list[Entry]:
    """The events as the entries of a log."""
    return [Entry(seq, 1_000 + seq, event) for seq, event in enumerate(content, 1)]


def filled(log: Sequence[Entry]) -> list[Entry]:
    """The log with its missing ids, as a run keeps it."""
    ids = IdFiller("run")
    return [msgspec.structs.replace(entry, event=ids.fill(entry.event)) for entry in log]


@st.composite
def loose_logs(draw: DrawFn) -> list[Entry]:
    """Whole logs, from `run.started` to one terminal event, where a source may have left out any id."""
    started = events.RunStarted(run_id="run", thread_id=draw(st.sampled_from([None, "thread"])))
    body = chain.from_iterable(draw(st.lists(_stretches, max_size=6)))
    return numbered([started, *body, draw(st.sampled_from(TERMINALS))])


#: Whole logs as a run keeps them.
logs: SearchStrategy[list[Entry]] = loose_logs().map(filled)


@st.composite
def merged_variants(draw: DrawFn, log: list[Entry]) -> list[Entry]:
    """The log as a reader may get it: cut anywhere, and some of the pieces merged."""
    cuts = sorted(draw(st.sets(st.integers(1, len(log)), max_size=3)))
    pieces = [log[start:end] for start, end in pairwise([0, *cuts, len(log)])]
    return list(chain.from_iterable(merge(piece) if draw(st.booleans()) else piece for piece in pieces))
