"""A thousand runs at once in one process: each of them is exact, whatever keeps them, and they take little room."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.integration.support.crowd import RUNS, crowd
from tests.integration.support.stores import STORES, a_store

#: Of a live run with its source, two followers and its log of 22 events, several times what it takes.
Record = Callable[[str, object], None]

RUN_BYTES = 128 * 1024


@pytest.mark.parametrize("kind", STORES)
def test_a_thousand_runs_at_once_are_exact(
    kind: str, tmp_path: Path, require_program: Callable[..., str], record_property: Record
) -> None:
    with (
        a_store(kind, tmp_path, require_program) as url,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes,
    ):
        result = processes.submit(crowd, url).result()

    assert (result.live, result.exact, result.late_exact, result.kept_exact) == (RUNS, RUNS, RUNS, RUNS)
    assert result.peak_bytes < RUNS * RUN_BYTES
    record_property("seconds for 1,000 runs", result.seconds)
    record_property("MB with 1,000 live runs", result.live_bytes / 1e6)
    record_property("MB at the peak", result.peak_bytes / 1e6)
