"""What reading an event stream costs, beside other decoders. `python -m benchmarks.parsers --help`; see METHOD.md.

Every decoder is fed the same chunks of bytes, from memory, and hands out its events one by one; nothing else is done
with them than to count them. Decoders take turns.
"""

import argparse
import codecs
import gc
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple, TypeAlias, cast

import httpx2
import httpx_sse
import msgspec
from anthropic._streaming import SSEDecoder as AnthropicDecoder
from openai._streaming import SSEDecoder as OpenAIDecoder

from benchmarks.machine import machine
from benchmarks.telling import spread, table
from tailrace.wire.sse import Decoder

__all__ = ["main"]

_PACKAGES = ("httpx-sse", "httpx2", "openai", "anthropic", "msgspec")
_JAVASCRIPT = Path(__file__).parents[1] / "js" / "client"
#: A decoder that takes longer for one pass is not asked again: it is as slow as that.
_PATIENCE_SECONDS = 2.0
#: Where there are fewer, what counts is how many bytes they have.
_SMALL_EVENTS_PER_SECOND = 1e6

Chunks: TypeAlias = Sequence[bytes]


class Work(NamedTuple):
    """A stream in pieces; `unit` is what its readers are compared by."""

    chunks: Chunks
    events: int
    unit: str

    @property
    def amount(self) -> float:
        """How much of its unit it is."""
        return self.events / 1e3 if self.unit == "k events/s" else sum(map(len, self.chunks)) / 1e6


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass has shown: CPU seconds for all of a stream."""

    work: str
    way: str
    repeat: int
    cpu_seconds: float


class _Response:
    """As much of httpx's response as readers of event streams look at, with its bytes decoded as httpx decodes them."""

    headers: Mapping[str, str] = {"content-type": "text/event-stream"}
    request = None

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def iter_text(self) -> Iterator[str]:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        for chunk in self._chunks:
            yield decode(chunk)


def _ours(chunks: Chunks) -> int:
    decoder = Decoder()
    count = 0
    for chunk in chunks:
        for _ in decoder.feed(chunk):
            count += 1
    return count


def _counted(events: Iterable[object]) -> int:
    count = 0
    for _ in events:
        count += 1
    return count


_WAYS: dict[str, Callable[[Chunks], int]] = {
    "tailrace": _ours,
    "httpx-sse": lambda chunks: _counted(httpx_sse.EventSource(cast("Any", _Response(chunks))).iter_sse()),
    "httpx2": lambda chunks: _counted(httpx2.EventSource(cast("Any", _Response(chunks)))),
    "openai": lambda chunks: _counted(OpenAIDecoder().iter_bytes(iter(chunks))),
    "anthropic": lambda chunks: _counted(AnthropicDecoder().iter_bytes(iter(chunks))),
}

#: What is claimed: how many times as fast as which, or as the fastest of them.
_CLAIMS = [
    ("tiny/64K", "httpx-sse", 2.0),
    ("tiny/64K", "openai", 5.0),
    ("tiny/1 each", "httpx-sse", 2.0),
    ("tiny/1 each", "openai", 5.0),
    ("openai/16K", "httpx-sse", 2.0),
    ("openai/16K", "openai", 5.0),
    ("4 KB/16K", "the best", 1.0),
    ("1 MB/64K", "the best", 1.0),
]


def _cut(stream: bytes, size: int) -> Chunks:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def _works(share: float) -> dict[str, Work]:
    tiny = [b'id: %d\ndata: {"token":" tok%d"}\n\n' % (n, n) for n in range(1, int(200_000 * share) + 1)]
    delta = (
        b'data: {"id":"chatcmpl-9x1k2","object":"chat.completion.chunk","created":1730000000,"model":"gpt-5.1",'
        b'"choices":[{"index":0,"delta":{"content":" tok%06d"},"logprobs":null}]}\n\n'
    )
    deltas = [delta % n for n in range(int(100_000 * share))]
    medium = [b"id: %d\ndata: %b\n\n" % (n, b"x" * 4096) for n in range(int(5_000 * share))]
    large = (b"data: " + b"x" * 84 + b"\n") * 11_000 + b"\n"
    large_events = max(1, int(20 * share))
    long = int(1_000_000 * share)
    return {
        "tiny/64K": Work(_cut(b"".join(tiny), 65_536), len(tiny), "k events/s"),
        "tiny/1 each": Work(tiny, len(tiny), "k events/s"),
        "openai/16K": Work(_cut(b"".join(deltas), 16_384), len(deltas), "k events/s"),
        "4 KB/16K": Work(_cut(b"".join(medium), 16_384), len(medium), "MB/s"),
        "1 MB/64K": Work(_cut(large * large_events, 65_536), large_events, "MB/s"),
        **{
            f"{name}, {part}/7": Work(_cut(start + b"x" * (long // of) + end, 7), events, "MB/s")
            for name, start, end, events in (("comment", b": ", b"\n", 0), ("line", b"data: ", b"\n\n", 1))
            for part, of in (("250 KB", 4), ("1 MB", 1))
        },
    }


def _measured(way: str, work: Work) -> float:
    """CPU seconds of one pass.

    Raises:
        RuntimeError: It did not give the events there are.
    """
    gc.collect()
    used = process_time()
    events = _WAYS[way](work.chunks)
    used = process_time() - used
    if events != work.events:
        raise RuntimeError(f"{way}: {events} events of {work.events}")
    return used


def _passes(works: Mapping[str, Work], ways: Sequence[str], repeats: int) -> Iterator[Pass]:
    for name, work in works.items():
        first = {way: _measured(way, work) for way in ways}
        slow = {way: used for way, used in first.items() if used > _PATIENCE_SECONDS}
        yield from (Pass(work=name, way=way, repeat=0, cpu_seconds=used) for way, used in slow.items())
        patient = [way for way in ways if way not in slow]
        for repeat in range(1, repeats + 1):
            # Who comes first changes, in case it matters.
            for way in patient[repeat % len(patient) :] + patient[: repeat % len(patient)]:
                yield Pass(work=name, way=way, repeat=repeat, cpu_seconds=_measured(way, work))


def _seconds(passes: Sequence[Pass], work: str, way: str) -> list[float]:
    return [one.cpu_seconds for one in passes if (one.work, one.way) == (work, way)]


def _ratios(passes: Sequence[Pass], ways: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each work, how many times as fast as each we are, by the medians."""
    works = dict.fromkeys(one.work for one in passes)
    middle = {(work, way): statistics.median(_seconds(passes, work, way)) for work in works for way in ways}
    return {
        work: {way: middle[work, way] / middle[work, "tailrace"] for way in ways if way != "tailrace"} for work in works
    }


def _tables(passes: Sequence[Pass], works: Mapping[str, Work], ways: Sequence[str]) -> str:
    rates = [["stream/chunks", "unit", *ways]]
    for name, work in works.items():
        cells = [spread([work.amount / used for used in _seconds(passes, name, way)], ".0f") for way in ways]
        rates.append([name, work.unit, *cells])
    ratios = _ratios(passes, ways)
    times = [
        ["tailrace is", *ways[1:]],
        *([name, *(f"{of:.1f}x" for of in row.values())] for name, row in ratios.items()),
    ]
    return f"{table(rates)}\n\n{table(times)}"


def _growth(passes: Sequence[Pass], ways: Sequence[str]) -> str:
    """What four times the length costs more than four times, which is 1 if time is linear and 4 if it is quadratic."""
    rows: list[list[str]] = []
    for name in ("comment", "line"):
        parts = [[_seconds(passes, f"{name}, {part}/7", way) for way in ways] for part in ("1 MB", "250 KB")]
        if all(map(all, parts)):
            whole, quarter = ([statistics.median(used) for used in part] for part in parts)
            rows.append([name, *(f"{long / short / 4:.1f}" for long, short in zip(whole, quarter, strict=True))])
    return table([["1 MB to 250 KB, per byte", *ways], *rows]) if rows else ""


def _claims(ratios: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for work, way, times in _CLAIMS:
        row = ratios.get(work, {})
        found = row.get(way) if way in _WAYS else min(row.values(), default=None)
        if found is not None:
            yield f"- {work}: {found:.1f}x {way}, claimed {times:g}x{'' if found >= times else ': MISSED'}"


def _javascript(repeats: int) -> dict[str, Any]:
    """What the benchmark of the JavaScript client finds: machine and results.

    Raises:
        SystemExit: There is no node, or no built client.
    """
    node = shutil.which("node")
    if node is None:
        raise SystemExit("not installed: node")
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        found = Path(folder) / "found.json"
        command = [node, "benchmarks/decoder.mjs", "--repeats", str(repeats), "--json", str(found)]
        if subprocess.run(command, cwd=_JAVASCRIPT, stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit("js/client has to be built: make install")
        return cast("dict[str, Any]", msgspec.json.decode(found.read_bytes()))


def _javascript_table(found: Mapping[str, Any]) -> str:
    rows = [[f"node {found['machine']['node']}", "unit", "tailrace", "eventsource-parser", "tailrace is"]]
    for name, readers in found["results"].items():
        ours, theirs = readers["tailrace"], readers["eventsource-parser"]
        small = ours["events_per_second"] >= _SMALL_EVENTS_PER_SECOND
        field, unit, per = ("events_per_second", "k events/s", 1e3) if small else ("megabytes_per_second", "MB/s", 1)
        rates = [f"{of[field] / per:.0f}" for of in (ours, theirs)]
        rows.append([name, unit, *rates, f"{ours[field] / theirs[field]:.2f}x"])
    return table(rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parsers", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="of everything (%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the length of each stream (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], help="decoders whose names begin so, beside ours")
    parser.add_argument("--work", nargs="+", default=[], help="streams whose names begin so")
    parser.add_argument("--javascript", action="store_true", help="our decoder in JavaScript as well, beside its peer")
    parser.add_argument("--output", type=Path, help="a JSON file for everything that was measured")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print what it shows."""
    options = _options(arguments)
    chosen = tuple(options.only) or ("",)
    ways = [way for way in _WAYS if way == "tailrace" or way.startswith(chosen)]
    works = {
        name: work for name, work in _works(options.share).items() if name.startswith(tuple(options.work) or ("",))
    }
    javascript = _javascript(options.repeats) if options.javascript else None
    load = [os.getloadavg()[0]]
    # What is imported stays: to look through it before each pass would take longer than the pass.
    gc.freeze()
    passes = list(_passes(works, ways, options.repeats))
    load.append(os.getloadavg()[0])
    facts = machine(_PACKAGES) | {"load before and after": " ".join(f"{of:.1f}" for of in load)}
    ratios = _ratios(passes, ways)
    print("; ".join(f"{name} {fact}" for name, fact in facts.items()))
    said = [_tables(passes, works, ways), _growth(passes, ways), "\n".join(_claims(ratios))]
    if javascript is not None:
        said.append(_javascript_table(javascript))
    print("\n\n".join(filter(None, said)))
    if options.output is not None:
        settings = {name: value for name, value in vars(options).items() if name != "output"}
        found = {"machine": facts, "settings": settings, "passes": passes, "ratios": ratios, "javascript": javascript}
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
