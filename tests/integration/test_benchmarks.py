"""The benchmarks run, lose nothing and tell what they found. How fast anything is is no subject here."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_BOUND_SECONDS = 140


def ran(benchmark: str, output: Path, *size: str) -> tuple[str, dict[str, Any]]:
    """What a tiny run printed and wrote."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *size, "--output", str(output)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_BOUND_SECONDS, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads(output.read_bytes())


@pytest.fixture(scope="module")
def found(require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a tiny run of `benchmarks.durable` wrote."""
    require_program("redis-server", "valkey-server")
    output = tmp_path_factory.mktemp("benchmarks") / "durable.json"
    size = ["--runs", "10", "--rate", "5", "--seconds", "0.6", "--warmup", "0.1", "--repeats", "1"]
    printed, result = ran("durable", output, *size)
    assert "naive / tailrace redis at 5/s" in printed
    return result


@pytest.mark.redis
@pytest.mark.parametrize("contest", ["tailrace redis", "its store alone", "naive redis", "tailrace memory"])
def test_every_event_of_a_source_reaches_its_reader(found: dict[str, Any], contest: str) -> None:
    (figures,) = [figures for figures in found["passes"] if figures["contest"] == contest]

    assert figures["sent"] > 0
    assert figures["received"] == figures["sent"]
    assert figures["lost"] == 0
    assert figures["p99_ms"] >= figures["p50_ms"] > 0


@pytest.mark.redis
def test_cpu_is_told_of_each_process_that_has_some(found: dict[str, Any]) -> None:
    told = {
        figures["contest"]: {name for name in ("producer_us", "reader_us", "redis_us") if (figures[name] or 0) > 0}
        for figures in found["passes"]
    }

    assert told == {
        "tailrace redis": {"producer_us", "reader_us", "redis_us"},
        "its store alone": {"producer_us", "reader_us", "redis_us"},
        "naive redis": {"producer_us", "reader_us", "redis_us"},
        "tailrace memory": {"producer_us"},
        "bare sources": {"producer_us"},
    }


@pytest.mark.redis
def test_the_contestants_are_compared_at_each_pace(found: dict[str, Any]) -> None:
    assert [(ratio["contest"], ratio["pace"]) for ratio in found["ratios"]] == [
        ("tailrace redis", 5),
        ("its store alone", 5),
    ]
    for ratio in found["ratios"]:
        assert all(ratio[name] > 0 for name in ("producer", "reader", "workers", "redis"))


@pytest.mark.timeout(150)
def test_adapters_read_what_bare_loops_read(tmp_path: Path) -> None:
    # Of frameworks, whose imports take longest, there is one.
    ways = {"openai chat", "anthropic", "pydantic-ai + openai"}
    size = ["--tokens", "50", "--streams", "2", "--paced-tokens", "5", "--repeats", "1", "--only", *sorted(ways)]

    printed, result = ran("adapters", tmp_path / "adapters.json", *size)

    figures = {(one["way"], one["speed"], one["adapter"]): one for one in result["passes"]}
    assert {way for way, _, _ in figures} == ways
    assert len(figures) == len(ways) * 4
    assert {one["tokens"] for one in figures.values()} == {50, 10}
    assert all(one["cpu_us"] > 0 for one in figures.values())
    assert all(way in printed for way in ways)


@pytest.mark.timeout(150)
def test_decoders_give_the_events_there_are(tmp_path: Path) -> None:
    printed, result = ran("parsers", tmp_path / "parsers.json", "--share", "0.01", "--repeats", "1")

    works = {one["work"] for one in result["passes"]}
    ways = {one["way"] for one in result["passes"]}
    assert ways == {"tailrace", "httpx-sse", "httpx2", "openai", "anthropic"}
    assert len(result["passes"]) == len(works) * len(ways)
    assert result["ratios"].keys() == works
    assert all(work in printed for work in works)
