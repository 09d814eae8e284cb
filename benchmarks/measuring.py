"""One pass: one contestant at one pace, with processes and a server of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from benchmarks.load import Plan, Table
from benchmarks.worker import Report, Task, Usage
from tailrace.runtime.keys import new_run_id
from tests.redis_server import RedisServer

__all__ = ["CONTESTS", "Contest", "Figures", "measure", "redis_program"]

_ROOT = Path(__file__).parents[1]
_REDIS_PROGRAMS = ("redis-server", "valkey-server")
_LEAD_SECONDS = 0.3
#: What a worker may take beside the load itself before it is given up.
_SPARE_SECONDS = 40.0
#: A contestant that delivers less of the pace than this, or is later than this, does not keep it.
_KEEPS = 0.98
_KEEPS_MS = 1_000


class Contest(msgspec.Struct, frozen=True):
    """A contestant and where its runs are kept."""

    name: str
    kind: str
    store: str


CONTESTS = (
    Contest("tailrace redis", "tailrace", "redis"),
    Contest("its store alone", "store", "redis"),
    Contest("naive redis", "naive", "redis"),
    Contest("tailrace memory", "tailrace", "memory"),
    Contest("bare sources", "bare", "none"),
)


class Figures(msgspec.Struct, kw_only=True):
    """What one pass has shown. CPU is in microseconds per event, latency in milliseconds from yield to frame.

    Attributes:
        sent: Events that sources yielded, of all that there could be.
        received: Events of which a reader had the frame.
        lost: Events that were yielded and of which no reader had the frame when it gave up.
        rate: Events per second that readers had in the window; where there are no readers, that sources yielded.
        keeps_pace: The rate is the pace, or hardly less, and neither sources nor frames are far behind.
        producer_us: CPU of the process with the sources, per event yielded.
        reader_us: CPU of the process with the readers, per event received; `None` if they share a process.
        redis_us: CPU of Redis, per event received.
        late_p99_ms: How late sources yielded, which a busy process hides from the latency.
        busy_elsewhere: Cores that others used meanwhile; `None` where that is not told.
    """

    contest: str
    pace: float
    repeat: int
    sent: int
    received: int
    lost: int
    rate: float
    keeps_pace: bool
    producer_us: float
    reader_us: float | None
    redis_us: float | None
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    late_p99_ms: float
    producer_rss_mib: float
    reader_rss_mib: float | None
    redis_rss_mib: float | None
    busy_elsewhere: float | None


class _Child:
    """A worker process; gone when the block is left."""

    def __init__(self, task: Task) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._limit = threading.Timer(_SPARE_SECONDS + task.plan.warmup_seconds + task.plan.seconds, self._process.kill)
        self._limit.daemon = True
        self._limit.start()
        self._tell(msgspec.json.encode(task))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()

    def until_ready(self) -> None:
        """Wait until it can begin.

        Raises:
            RuntimeError: It has failed.
        """
        if self._line() != b"ready\n":
            raise RuntimeError("a worker did not get ready")

    def begin(self, start_at: float) -> None:
        """Tell when the sources begin."""
        self._tell(b"%r" % start_at)

    def report(self) -> Report:
        """Wait for its end.

        Raises:
            RuntimeError: It has failed, or taken too long.
        """
        line = self._line()
        if not line:
            raise RuntimeError("a worker ended without a report")
        return msgspec.json.decode(line, type=Report)

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def measure(contest: Contest, plan: Plan, repeat: int, *, profiles: bool = False) -> tuple[Figures, list[str]]:
    """One pass; the figures, and what the profilers say."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tailrace-bench-")))
        server: RedisServer | None = None
        if contest.store == "redis":
            server = stack.enter_context(RedisServer(redis_program(), folder / "redis"))
        table = Table.create(folder / "table", plan)
        task = Task(
            contestant=contest.kind,
            store="memory://" if server is None else server.url,
            produces=True,
            reads=contest.store == "memory",
            run_ids=[new_run_id() for _ in range(plan.runs)],
            plan=plan,
            table=str(folder / "table"),
            profiles=profiles,
        )
        children = [stack.enter_context(_Child(task))]
        children[0].until_ready()
        if server is not None:
            reading = msgspec.structs.replace(task, produces=False, reads=True)
            children.append(stack.enter_context(_Child(reading)))
            children[1].until_ready()
        start_at = time.monotonic() + _LEAD_SECONDS
        for child in children:
            child.begin(start_at)
        looks = _watch(server, start_at, plan)
        reports = [child.report() for child in children]
        figures = _figures(contest, plan, repeat, table, start_at, reports, looks)
        if server is not None:
            figures.redis_rss_mib = int(server.info("memory")["used_memory_rss"]) / 1024**2
        return figures, [report.profile for report in reports if report.profile is not None]


def redis_program() -> str:
    """The path of a server.

    Raises:
        SystemExit: None is installed.
    """
    found = next((path for name in _REDIS_PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit(f"not installed: {' or '.join(_REDIS_PROGRAMS)}")
    return found


class _Look(msgspec.Struct, frozen=True):
    """CPU seconds used up to a time: by Redis, and by the whole machine."""

    at: float
    redis: float
    machine: float | None


def _watch(server: RedisServer | None, start_at: float, plan: Plan) -> tuple[_Look, _Look]:
    begin, end = plan.window
    time.sleep(max(0.0, start_at + begin - time.monotonic()))
    before = _look(server)
    time.sleep(max(0.0, start_at + end - time.monotonic()))
    return before, _look(server)


def _look(server: RedisServer | None) -> _Look:
    used = 0.0
    if server is not None:
        cpu = server.info("cpu")
        used = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
    return _Look(time.monotonic(), used, _machine_seconds())


def _machine_seconds() -> float | None:
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, *_ = (int(ticks) for ticks in first.split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _figures(  # noqa: PLR0913  all that a pass leaves behind
    contest: Contest,
    plan: Plan,
    repeat: int,
    table: Table,
    start_at: float,
    reports: Sequence[Report],
    looks: tuple[_Look, _Look],
) -> Figures:
    yielded, ready = table.yielded.tolist(), table.ready.tolist()
    begin, end = (start_at + seconds for seconds in plan.window)
    reads = contest.store != "none"
    latencies = sorted(
        (there - said) * 1e3 for said, there in zip(yielded, ready, strict=True) if begin <= said < end and there
    )
    received_at = ready if reads else yielded
    rate = sum(begin <= at < end for at in received_at) / plan.seconds
    p99_ms, late_p99_ms = _at(latencies, 0.99), _at(_lateness(plan, yielded, start_at), 0.99) or 0.0
    producer, reader = reports[0], (reports[1] if len(reports) > 1 else None)
    before, after = looks
    ours = sum(report.after.cpu_seconds - report.before.cpu_seconds for report in reports) + after.redis - before.redis
    busy = None
    if before.machine is not None and after.machine is not None:
        busy = max(0.0, (after.machine - before.machine - ours) / (after.at - before.at))
    return Figures(
        contest=contest.name,
        pace=plan.rate,
        repeat=repeat,
        sent=sum(map(bool, yielded)),
        received=sum(map(bool, ready)),
        lost=sum(bool(said) and not there for said, there in zip(yielded, ready, strict=True)) if reads else 0,
        rate=rate,
        keeps_pace=rate >= _KEEPS * plan.runs * plan.rate and (p99_ms or 0) + late_p99_ms < _KEEPS_MS,
        producer_us=_per_event(producer.before, producer.after, yielded),
        reader_us=None if reader is None else _per_event(reader.before, reader.after, ready),
        redis_us=_per_event(Usage(before.at, before.redis), Usage(after.at, after.redis), ready) if reader else None,
        p50_ms=_at(latencies, 0.50),
        p99_ms=p99_ms,
        max_ms=_at(latencies, 1.0),
        late_p99_ms=late_p99_ms,
        producer_rss_mib=producer.peak_rss_mib,
        reader_rss_mib=None if reader is None else reader.peak_rss_mib,
        redis_rss_mib=None,
        busy_elsewhere=busy,
    )


def _per_event(before: Usage, after: Usage, happened_at: Sequence[float]) -> float:
    events = sum(before.at <= at < after.at for at in happened_at)
    return (after.cpu_seconds - before.cpu_seconds) / max(1, events) * 1e6


def _lateness(plan: Plan, yielded: Sequence[float], start_at: float) -> list[float]:
    """Milliseconds between each deadline in the window and its event, or the window's end if it never came."""
    begin, end = plan.window
    late: list[float] = []
    for run, phase in enumerate(plan.phases):
        for number in range(plan.events_per_run):
            due = phase + number / plan.rate
            if begin <= due < end:
                said = yielded[run * plan.events_per_run + number]
                late.append(((said - start_at if said else end) - due) * 1e3)
    return sorted(late)


def _at(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
