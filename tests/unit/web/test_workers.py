"""A worker knows that it is one of several only where that is certain."""

import multiprocessing
from types import SimpleNamespace

import pytest

from tailrace.web.workers import is_one_of_several


def started_with(monkeypatch: pytest.MonkeyPatch, **arguments: object) -> None:
    """Pretend that this process was started by another one, with these arguments."""
    monkeypatch.setattr("multiprocessing.parent_process", lambda: SimpleNamespace(pid=1))
    monkeypatch.setattr(multiprocessing.current_process(), "_kwargs", arguments, raising=False)


def test_a_process_of_its_own_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")

    assert not is_one_of_several()


def test_one_of_several_workers_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started_with(monkeypatch, config=SimpleNamespace(workers=2, should_reload=False))

    assert is_one_of_several()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"config": None},
        {"config": {"workers": 2}},
        {"config": SimpleNamespace(workers=1, should_reload=False)},
        {"config": SimpleNamespace(workers="2")},
        {"config": SimpleNamespace(workers=2, should_reload=True)},
    ],
    ids=["nothing", "none", "of another kind", "one worker", "no number", "reload"],
)
def test_what_is_not_certain_is_not_said(arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    started_with(monkeypatch, **arguments)

    assert not is_one_of_several()
