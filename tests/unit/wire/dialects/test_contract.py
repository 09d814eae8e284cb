"""The numbers that every encoder writes, whatever its frames say."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest

from tailrace.errors import OptionInvalidError
from tailrace.events import Data, Entry, TextDelta
from tailrace.fold import Reduced
from tailrace.wire.dialects.contract import Dialect, Encoder, IdForm, Option, choice


class Counting(Encoder):
    """Writes as many frames as the entry's data says."""

    def __init__(
        self, *, run_id: str, thread_id: str | None = None, ids: IdForm = "seq", step: int = 1, size: int = 0
    ) -> None:
        super().__init__(run_id=run_id, thread_id=thread_id, ids=ids)
        self.step, self.size = step, size

    def bodies(self, entry: Entry) -> list[bytes]:
        count = entry.event.data if isinstance(entry.event, Data) else 1
        return [b"data: %d\n\n" % number for number in range(count)]


class CountingDialect(Dialect):
    name: ClassVar[str] = "counting"
    encodes_with: ClassVar[type[Encoder]] = Counting
    options: ClassVar[Mapping[str, Option]] = {"step": choice({"1": 1, "2": 2}), "size": lambda value: int(str(value))}

    def document(self, reduced: Reduced) -> bytes:
        return b"{}"


def ids_of(frames: list[bytes]) -> list[str | None]:
    """The `id` line of each frame."""
    return [
        first.removeprefix("id: ") if first.startswith("id: ") else None
        for first in (frame.decode().splitlines()[0] for frame in frames)
    ]


def frames_of(entry: Entry, ids: IdForm = "seq") -> list[bytes]:
    return Counting(run_id="run", ids=ids).encode(entry)


@pytest.mark.parametrize(("count", "ids"), [(0, []), (1, ["7"]), (2, ["6.1", "7"]), (4, ["6.1", "6.2", "6.3", "7"])])
def test_the_last_frame_has_the_number_and_those_before_it_count_towards_it(count: int, ids: list[str]) -> None:
    assert ids_of(frames_of(Entry(7, 0, Data("a", count)))) == ids


def test_the_frames_of_a_merged_entry_count_from_the_first_number_it_covers() -> None:
    assert ids_of(frames_of(Entry(9, 0, Data("a", 3), first=5))) == ["4.1", "4.2", "9"]


def test_an_id_may_name_the_run() -> None:
    assert ids_of(frames_of(Entry(7, 0, Data("a", 2)), "run")) == ["run:6.1", "run:7"]


def test_without_a_log_there_are_no_ids() -> None:
    entry = Entry(7, 0, Data("a", 2))

    assert frames_of(entry, "none") == Counting(run_id="run").bodies(entry)


@pytest.mark.parametrize("ids", ["seq", "run", "none"])
def test_what_is_in_no_log_has_no_id(ids: IdForm) -> None:
    assert ids_of(frames_of(Entry(0, 0, Data("a", 2)), ids)) == [None, None]


def test_the_id_line_stands_before_the_frame_and_changes_nothing_in_it() -> None:
    assert frames_of(Entry(7, 0, TextDelta("a"))) == [b"id: 7\ndata: 0\n\n"]


def test_an_encoder_knows_its_run_and_thread() -> None:
    encoder = CountingDialect().encoder(run_id="run", thread_id="thread", include_usage=True)

    assert (encoder.run_id, encoder.thread_id) == ("run", "thread")


def test_a_dialect_promises_nothing_it_does_not_say() -> None:
    dialect = CountingDialect()

    assert dict(dialect.headers) == {}
    assert dialect.resumes is False
    assert dialect.stateful is True


def test_an_error_is_a_document_of_one_shape() -> None:
    document: dict[str, Any] = msgspec.json.decode(CountingDialect().error(404, "run_not_found", "no such run"))

    assert document == {"error": {"code": "run_not_found", "message": "no such run", "status": 404}}


@pytest.mark.parametrize(("value", "meaning"), [("a", 1), ("A", 1), (5, 5), ("5", 5), (None, 0)])
def test_a_choice_takes_values_as_a_url_spells_them(value: object, meaning: int) -> None:
    assert choice({None: 0, "a": 1, "5": 5})(value) == meaning


@pytest.mark.parametrize(("name", "value"), [("step", "0"), ("step", None), ("size", "x")])
def test_a_value_that_an_option_cannot_have_is_refused(name: str, value: Any) -> None:  # noqa: ANN401
    with pytest.raises(OptionInvalidError, match=f"{name} cannot be"):
        CountingDialect().encoder(run_id="run", **{name: value})


def test_an_encoder_is_told_the_options_that_its_dialect_knows() -> None:
    encoder = CountingDialect().encoder(run_id="run", step="2", size="7", unknown="1")

    assert isinstance(encoder, Counting)
    assert (encoder.step, encoder.size) == (2, 7)
