"""The decoder passes the language-neutral cases of `spec/conformance/sse.yaml`, cut in every way."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
import yaml

from tailrace.wire.sse import Decoder, ServerSentEvent

CASES_PATH = Path(__file__).parents[2] / "spec" / "conformance" / "sse.yaml"


class Case(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    input: list[str]
    events: list[tuple[str, str, str]]
    comments: list[str]
    last_event_id: str
    retry: int | None

    @property
    def chunks(self) -> list[bytes]:
        return [chunk.encode("latin-1") for chunk in self.input]


class CaseFile(msgspec.Struct, forbid_unknown_fields=True):
    cases: list[Case]


CASES = msgspec.convert(yaml.safe_load(CASES_PATH.read_text(encoding="utf-8")), CaseFile).cases

each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def assert_passes(case: Case, chunks: Iterable[bytes]) -> None:
    comments: list[str] = []
    decoder = Decoder(on_comment=comments.append)

    events = [event for chunk in chunks for event in decoder.feed(chunk)]

    assert events == [ServerSentEvent(*expected) for expected in case.events], case.why
    assert comments == case.comments, case.why
    assert decoder.last_event_id == case.last_event_id, case.why
    assert decoder.retry == case.retry, case.why


@each_case
def test_a_case_passes_in_the_chunks_it_names(case: Case) -> None:
    assert_passes(case, case.chunks)


@each_case
def test_a_case_passes_whole(case: Case) -> None:
    assert_passes(case, [b"".join(case.chunks)])


@each_case
def test_a_case_passes_byte_by_byte(case: Case) -> None:
    assert_passes(case, [bytes([byte]) for chunk in case.chunks for byte in chunk])


@each_case
def test_a_case_passes_cut_in_two_at_every_place(case: Case) -> None:
    stream = b"".join(case.chunks)

    for cut in range(len(stream) + 1):
        assert_passes(case, [stream[:cut], stream[cut:]])


def test_no_two_cases_have_the_same_name() -> None:
    names = [case.name for case in CASES]

    assert len(set(names)) == len(names)
