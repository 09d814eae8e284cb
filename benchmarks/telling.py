"""Passes as a table, and how the contestants compare."""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from benchmarks.measuring import Figures

__all__ = ["Ratio", "line_of", "ratios_of", "spread", "table", "tables_of", "told"]


class Ratio(msgspec.Struct, kw_only=True):
    """Naive to one of ours, CPU per event at one pace; `net` is without what the bare sources cost."""

    contest: str
    pace: float
    both_keep_pace: bool
    producer: float
    producer_net: float
    reader: float
    workers: float
    workers_net: float
    redis: float


_Value: TypeAlias = Callable[[Figures], float | None]
_Column: TypeAlias = Callable[[Sequence[Figures]], str]


def _values(passes: Sequence[Figures], value: _Value) -> list[float]:
    return [found for figures in passes if (found := value(figures)) is not None]


def _median(passes: Sequence[Figures], value: _Value) -> float:
    return statistics.median(_values(passes, value) or [0.0])


def _spread(value: _Value, form: str) -> _Column:
    """The median, with the least and the most."""

    def cell(passes: Sequence[Figures]) -> str:
        return spread(_values(passes, value), form)

    return cell


def spread(values: Sequence[float], form: str) -> str:
    """The median of the values with the least and the most; `-` if there are none."""
    if not values:
        return "-"
    middle, low, high = (f"{shown:{form}}" for shown in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} [{low}..{high}]"


def _kept(passes: Sequence[Figures]) -> str:
    return f"{sum(figures.keeps_pace for figures in passes)} of {len(passes)}"


_COST: dict[str, _Column] = {
    "events/s": _spread(lambda figures: figures.rate, ".0f"),
    "keeps pace": _kept,
    "lost": _spread(lambda figures: figures.lost, ".0f"),
    "producer us": _spread(lambda figures: figures.producer_us, ".1f"),
    "reader us": _spread(lambda figures: figures.reader_us, ".1f"),
    "redis us": _spread(lambda figures: figures.redis_us, ".1f"),
    "busy elsewhere": _spread(lambda figures: figures.busy_elsewhere, ".1f"),
}
_TIME: dict[str, _Column] = {
    "p50 ms": _spread(lambda figures: figures.p50_ms, ".1f"),
    "p99 ms": _spread(lambda figures: figures.p99_ms, ".1f"),
    "max ms": _spread(lambda figures: figures.max_ms, ".0f"),
    "late p99 ms": _spread(lambda figures: figures.late_p99_ms, ".1f"),
    "producer MiB": _spread(lambda figures: figures.producer_rss_mib, ".0f"),
    "reader MiB": _spread(lambda figures: figures.reader_rss_mib, ".0f"),
    "redis MiB": _spread(lambda figures: figures.redis_rss_mib, ".0f"),
}


def tables_of(passes: Sequence[Figures], runs: int) -> str:
    """Medians with the least and the most of all passes, as two Markdown tables: what it costs, how long it takes."""
    return "\n\n".join(_table(passes, runs, columns) for columns in (_COST, _TIME))


def _table(passes: Sequence[Figures], runs: int, columns: dict[str, _Column]) -> str:
    rows = [["runs x pace", "contestant", *columns]]
    for pace, contest in dict.fromkeys((figures.pace, figures.contest) for figures in passes):
        own = _passes(passes, pace, contest)
        rows.append([f"{runs} x {pace:g}/s", contest, *(cell(own) for cell in columns.values())])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first of them its head."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_row(row, widths) for row in rows)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width, "-" if cell == "---" else " ") for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _passes(passes: Sequence[Figures], pace: float, contest: str) -> list[Figures]:
    return [figures for figures in passes if figures.pace == pace and figures.contest == contest]


def ratios_of(passes: Sequence[Figures]) -> list[Ratio]:
    """Naive to ours at each pace, of the medians."""
    paces = dict.fromkeys(figures.pace for figures in passes)
    ratios = (_ratio(contest, pace, passes) for pace in paces for contest in ("tailrace redis", "its store alone"))
    return [ratio for ratio in ratios if ratio is not None]


def _ratio(contest: str, pace: float, passes: Sequence[Figures]) -> Ratio | None:
    ours, naive, bare = (_passes(passes, pace, name) for name in (contest, "naive redis", "bare sources"))
    if not (ours and naive and bare):
        return None

    def used(of: Sequence[Figures]) -> tuple[float, float, float]:
        return (
            _median(of, lambda figures: figures.producer_us),
            _median(of, lambda figures: figures.reader_us),
            _median(of, lambda figures: figures.redis_us),
        )

    (our_producer, our_reader, our_redis), (their_producer, their_reader, their_redis) = used(ours), used(naive)
    load = used(bare)[0]
    return Ratio(
        contest=contest,
        pace=pace,
        both_keep_pace=all(figures.keeps_pace for figures in (*ours, *naive)),
        producer=_times(their_producer, our_producer),
        producer_net=_times(their_producer - load, our_producer - load),
        reader=_times(their_reader, our_reader),
        workers=_times(their_producer + their_reader, our_producer + our_reader),
        workers_net=_times(their_producer + their_reader - load, our_producer + our_reader - load),
        redis=_times(their_redis, our_redis),
    )


def _times(more: float, less: float) -> float:
    return more / less if less > 0 else float("inf")


def told(ratio: Ratio) -> str:
    """A ratio as a sentence."""
    fair = "" if ratio.both_keep_pace else " (not both keep the pace: at what each reached)"
    return (
        f"naive / {ratio.contest} at {ratio.pace:g}/s{fair}: producer {ratio.producer:.1f}x, net of the bare sources "
        f"{ratio.producer_net:.1f}x; reader {ratio.reader:.1f}x; both workers {ratio.workers:.1f}x, net "
        f"{ratio.workers_net:.1f}x; Redis {ratio.redis:.1f}x"
    )


def line_of(figures: Figures) -> str:
    """One pass as one line."""
    return " ".join(
        f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={value}"
        for name, value in msgspec.structs.asdict(figures).items()
        if value is not None
    )
