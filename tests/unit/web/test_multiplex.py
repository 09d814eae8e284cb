"""The frames of several runs on one stream."""

from tailrace import events
from tailrace.events import Entry, Event
from tailrace.web.multiplex import RunsEncoder, Tagged


def ids(encoder: RunsEncoder, run_id: str, *said: Event) -> list[bytes]:
    frames = [
        frame for seq, event in enumerate(said, 1) for frame in encoder.encode(Tagged(run_id, Entry(seq, 0, event)))
    ]
    return [frame.split(b"\n")[0] for frame in frames]


def test_each_id_names_its_run() -> None:
    encoder = RunsEncoder()

    assert ids(encoder, "a", events.TextDelta("x"), events.RunCompleted()) == [b"id: a:1", b"id: a:2"]
    assert ids(encoder, "b", events.TextDelta("x")) == [b"id: b:1"]


def test_of_a_run_that_has_ended_nothing_is_kept() -> None:
    encoder = RunsEncoder()

    for number in range(100):
        ids(encoder, f"run-{number}", events.TextDelta("x"), events.RunCompleted())

    assert not any(vars(encoder).values())
