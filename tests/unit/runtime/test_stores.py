"""A URL names a log store; one that does not is refused without giving away what it holds."""

from pathlib import Path

import pytest

from tailrace.errors import RunNotFoundError, StoreSetupError
from tailrace.runtime.runs import Runs
from tailrace.runtime.stores import open_store
from tailrace.stores.contract import RunStore
from tailrace.stores.memory import MemoryStore
from tailrace.stores.redis import RedisStore
from tailrace.stores.sqlite import SqliteStore
from tailrace.testing import FakeClock

RETENTION_SECONDS = 60.0


def opened(url: str, clock: FakeClock | None = None) -> RunStore:
    return open_store(url, clock=clock or FakeClock(), retention_seconds=RETENTION_SECONDS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that relative paths begin in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("url", ["memory://", "memory://whatever"])
async def test_a_memory_store_is_of_this_process(url: str) -> None:
    store = opened(url)

    assert isinstance(store, MemoryStore)
    assert not store.shared


async def test_a_memory_store_gets_the_clock_and_the_retention() -> None:
    clock = FakeClock()
    store = opened("memory://", clock)
    async with Runs(store, clock=clock) as runs:
        run = await runs.start(["word"])
        await run.result()

        clock.advance(RETENTION_SECONDS - 1)
        before = (await runs.info(run.id)).status
        clock.advance(1)

        with pytest.raises(RunNotFoundError):
            await runs.info(run.id)
        assert before == "completed"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("sqlite:///of/app/runs.db", "of/app/runs.db"),
        ("sqlite:///with%20space%3F%23.db", "with space?#.db"),
        ("sqlite:///[brackets].db", "[brackets].db"),
    ],
)
async def test_three_slashes_are_a_path_from_here(here: Path, url: str, name: str) -> None:
    (here / name).parent.mkdir(parents=True, exist_ok=True)

    store = opened(url)
    await store.open()
    await store.aclose()

    assert isinstance(store, SqliteStore)
    assert (here / name).is_file()


async def test_four_slashes_are_a_path_from_the_root(tmp_path: Path) -> None:
    store = opened(f"sqlite:///{tmp_path}/runs.db")

    await store.open()
    await store.aclose()

    assert (tmp_path / "runs.db").is_file()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "needs a path"),
        ("sqlite:///", "needs a path"),
        ("sqlite:////", "needs a path"),
        ("sqlite://runs.db", "has no host"),
        ("sqlite://here/runs.db", "has no host"),
        ("sqlite://user:secret@here/runs.db", "has no host"),
    ],
)
def test_a_sqlite_store_that_names_no_path_is_told_how(url: str, said: str) -> None:
    with pytest.raises(StoreSetupError, match=said) as refused:
        opened(url)

    assert "sqlite:///runs.db is a path from here, sqlite:////var/lib/app/runs.db one from the root" in str(
        refused.value
    )
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///runs.db?mode=ro", "sqlite:///runs.db?", "sqlite:///runs#1.db"])
def test_what_would_be_cut_off_a_path_is_refused(url: str) -> None:
    with pytest.raises(StoreSetupError, match=r"no options; in a path, .* is written %3F and # %23"):
        opened(url)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(StoreSetupError, match="null character"):
        opened("sqlite:///runs%00.db")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_redis_store_connects_to_nothing_before_it_is_used(scheme: str) -> None:
    store = opened(f"{scheme}://user:secret@redis.invalid:6379/1")

    assert isinstance(store, RedisStore)
    assert store.shared


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_redis_store_without_its_extra_says_what_to_install(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_found: dict[str, None] = {}
    monkeypatch.setattr("importlib.util.find_spec", nothing_found.get)

    with pytest.raises(StoreSetupError) as refused:
        opened(f"{scheme}://user:secret@redis.invalid")

    assert "tailrace[redis]" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://user:secret@db.invalid/runs",
        f"{'long' * 20}secret://db.invalid",
        "Redis://user:secret@db.invalid",
        "://user:secret@db.invalid",
        "redis:user:secret@db.invalid",
        "user:secret@db.invalid",
        "user:secret@x://db.invalid",
        "secret",
        "",
    ],
)
def test_an_unknown_kind_is_refused_and_nothing_else_is_told(url: str) -> None:
    with pytest.raises(StoreSetupError) as refused:
        opened(url)

    told = str(refused.value)
    assert "secret" not in told
    assert "db.invalid" not in told
    assert all(f"{kind}://" in told for kind in ("memory", "sqlite", "redis", "rediss"))


def test_runs_take_the_url_as_it_is() -> None:
    with pytest.raises(StoreSetupError):
        Runs("postgres://db.invalid")

    assert isinstance(Runs("memory://").store, MemoryStore)
