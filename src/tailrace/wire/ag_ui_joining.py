"""What the AG-UI dialect needs to know of a run and has no field of its own in the log.

Under the name `ag_ui`, the `meta` of `run.started` has the id by which the client knows the run, and the `ext` of a
snapshot what a client needs that joins there.
"""

import msgspec

from tailrace import events, fold
from tailrace.events import Snapshot
from tailrace.fold import Reduced
from tailrace.wire.values import Json

__all__ = ["META", "Beside", "beside_of", "joining", "started_as", "step_name"]

#: Under this name `run.started.meta` keeps `{"run_id"}`, the id by which the client knows the run.
META = "ag_ui"


class _Known(msgspec.Struct, frozen=True):
    run_id: str


class _Meta(msgspec.Struct, frozen=True):
    ag_ui: _Known | None = None


def started_as(event: events.RunStarted) -> str:
    """The run's id as its client knows it; the run's own, if it began in another protocol."""
    try:
        known = msgspec.convert(event.meta or {}, _Meta).ag_ui
    except msgspec.ValidationError:
        known = None
    return event.run_id if known is None else known.run_id


class Beside(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a snapshot has no room for, in its `ext`.

    Attributes:
        before: The conversation before the run, in AG-UI's form.
        steps: Id and name of each step that is not finished.
        line: The newest status.
        thoughts: All of them.
        progress: The newest of each.
    """

    before: list[Json] = []
    steps: list[tuple[str | None, str]] = []
    line: str | None = None
    thoughts: list[str] = []
    progress: list[events.Progress] = []


def joining(reduced: Reduced, before: list[Json]) -> Snapshot:
    """A run so far for a client that joins it.

    Args:
        reduced: The run.
        before: The conversation before it, in AG-UI's form. What the client has and is in neither will be gone.
    """
    beside = Beside(
        before=before,
        steps=[(step.id, step_name(step)) for step in reduced.steps if not step.done],
        line=reduced.line,
        thoughts=reduced.thoughts,
        progress=list(reduced.progress.values()),
    )
    snapshot = fold.snapshot(reduced)
    return msgspec.structs.replace(snapshot, ext={**(snapshot.ext or {}), META: msgspec.to_builtins(beside)})


def beside_of(event: Snapshot) -> Beside:
    """What `joining` put beside a snapshot; nothing, if it is somebody else's."""
    try:
        return msgspec.convert((event.ext or {}).get(META, {}), Beside)
    except msgspec.ValidationError:
        return Beside()


def step_name(step: events.StepStarted | fold.Step) -> str:
    """What a client calls a step, whether or not the source named it."""
    return step.name or (step.step_id if isinstance(step, events.StepStarted) else step.id) or f"step {step.index or 1}"
