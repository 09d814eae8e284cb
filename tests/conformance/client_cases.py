"""The cases of `spec/conformance/client.yaml`, and whether what was seen is what they expect."""

import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.conformance.scripted_server import Answer, Play, Seen

__all__ = ["CASES", "MARGIN_MS", "Act", "Call", "Case", "Did", "check"]

_PATH = Path(__file__).parents[2] / "spec" / "conformance" / "client.yaml"

#: Added to every upper bound of a case: this machine may be busy with something else.
MARGIN_MS = 500


class Call(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the client is told to do; this and the other shapes are explained in `client.yaml`."""

    surface: str = "stream"
    method: str = "GET"
    path: str = "/events"
    body: Any = None
    headers: dict[str, str] | list[dict[str, str]] = {}
    dialect: str = "native"
    last_event_id: str = ""
    run_id: str = ""
    options: dict[str, float] = {}

    @property
    def started(self) -> str:
        """The method of its first request."""
        return {"run": "POST", "attach": "GET"}.get(self.surface, self.method)


class Act(msgspec.Struct, forbid_unknown_fields=True):
    when: dict[str, Any]
    do: str
    ms: float = 0


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    method: str | None = None
    path: str | None = None
    headers: dict[str, str] = {}
    absent: list[str] = []
    present: list[str] = []
    body: Any = None
    other: bool = False
    after_ms: tuple[float, float] | None = None


class _Expect(msgspec.Struct, forbid_unknown_fields=True):
    outcome: str | dict[str, Any]
    requests: list[_Request]
    events: list[tuple[str, Any, str | None]] | None = None
    entries: list[list[Any]] | None = None
    text: str | None = None
    waiting_ms: tuple[float, float] | None = None
    closes_within_ms: float | None = None
    quiet_ms: float = 50


class Case(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    covers: list[str]
    why: str
    call: Call
    answers: list[Answer]
    expect: _Expect
    act: list[Act] = []
    needs: list[str] = []

    @property
    def wants(self) -> list[str]:
        """What has to be read of the stream or run."""
        return [name for name in ("events", "entries", "text") if getattr(self.expect, name) is not None]


class Did(msgspec.Struct):
    """What a client did in a case, as its driver tells it.

    Attributes:
        outcome: `ended`, `closed`, `thrown` or `error`.
        error: The facts of an error: `code`, and what else it has.
        events: Name, data and id of each event.
        entries: Type and number of each entry, and the first number if it has one.
        text: The text of the run.
        acted_at: Unix seconds of the last action.
        waiting_ms: The rest of the wait when it was cut short.
    """

    outcome: str
    error: dict[str, Any] = {}
    events: list[tuple[str, str, str]] = []
    entries: list[list[Any]] = []
    text: str | None = None
    acted_at: float | None = None
    waiting_ms: float | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    cases: list[Case]


CASES = msgspec.convert(yaml.safe_load(_PATH.read_text(encoding="utf-8")), _File).cases


def check(case: Case, did: Did, play: Play) -> None:
    """Fail the test at the first thing that is not as the case expects it."""
    expect = case.expect
    outcome = expect.outcome if isinstance(expect.outcome, str) else "error"
    assert did.outcome == outcome, f"{did.outcome}: {did.error}; {_told(case, play)}"
    if isinstance(expect.outcome, dict):
        assert {name: did.error.get(name) for name in expect.outcome} == expect.outcome, case.why
    _check_read(case, did)
    assert len(play.seen) == len(expect.requests), _told(case, play)
    assert not play.unexpected, _told(case, play)
    for number, (seen, wanted) in enumerate(zip(play.seen, expect.requests, strict=True)):
        _check_request(case, seen, wanted)
        if wanted.after_ms is not None:
            ended_at = play.seen[number - 1].answered_at
            assert ended_at is not None
            _check_between(case, (seen.at - ended_at) * 1_000, wanted.after_ms)
    if expect.waiting_ms is not None:
        assert did.waiting_ms is not None, case.why
        _check_between(case, did.waiting_ms, expect.waiting_ms)
    if expect.closes_within_ms is not None:
        closed_at = play.seen[-1].closed_at
        assert closed_at is not None, f"the connection is still open: {case.why}"
        assert did.acted_at is not None
        _check_between(case, (closed_at - did.acted_at) * 1_000, (-MARGIN_MS, expect.closes_within_ms))


def _check_read(case: Case, did: Did) -> None:
    expect = case.expect
    if expect.events is not None:
        assert [event[0] for event in did.events] == [event[0] for event in expect.events], case.why
        for (_, data, id_), (name, wanted, wanted_id) in zip(did.events, expect.events, strict=True):
            assert wanted_id in {None, id_}, f"{name}: {case.why}"
            if wanted is not None:
                assert (data if isinstance(wanted, str) else json.loads(data)) == wanted, f"{name}: {case.why}"
    if expect.entries is not None:
        wanted_entries = [entry if entry[1] is not None else entry[:1] for entry in expect.entries]
        numbered = [
            entry if wanted[1:] else entry[:1] for entry, wanted in zip(did.entries, wanted_entries, strict=False)
        ]
        assert numbered + did.entries[len(numbered) :] == wanted_entries, case.why
    if expect.text is not None:
        assert did.text == expect.text, case.why


def _check_request(case: Case, seen: Seen, wanted: _Request) -> None:
    told = f"{seen.method} {seen.path} {seen.headers}: {case.why}"
    assert seen.method == (wanted.method or case.call.started), told
    assert seen.path == (wanted.path or case.call.path), told
    assert seen.other == wanted.other, told
    for name, value in wanted.headers.items():
        assert seen.headers.get(name) == value, told
    assert not [name for name in wanted.absent if name in seen.headers], told
    assert not [name for name in wanted.present if not seen.headers.get(name)], told
    assert (json.loads(seen.body) if seen.body else None) == wanted.body, told


def _check_between(case: Case, ms: float, bounds: tuple[float, float]) -> None:
    assert bounds[0] <= ms <= bounds[1] + MARGIN_MS, f"{ms:.0f} ms: {case.why}"


def _told(case: Case, play: Play) -> str:
    requests = ", ".join(f"{seen.method} {seen.path}" for seen in play.seen)
    return f"{case.why} Requests: {requests}"
