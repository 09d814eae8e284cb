"""The ledger of a stream: what may be appended, by whom, and how long the stream lives."""

from typing import Any

import msgspec
import pytest

from tailrace.runtime.ledger import (
    Append,
    Ledger,
    Mark,
    Opening,
    Outcome,
    Step,
    StreamLimits,
    encode_fact,
    encode_message,
    message_of,
)

NOW_MS = 1_700_000_000_000
LIMITS = StreamLimits(max_records=20, max_bytes=1_000, producers=2, lifetime_seconds=80)


def opened(**terms: Any) -> Ledger:  # noqa: ANN401  fields of `Opening`
    """A stream of text that has just begun."""
    ledger = Ledger()
    ledger.take(encode_fact(msgspec.structs.replace(Opening("n", NOW_MS, "text/plain"), **terms)))
    return ledger


def text(body: bytes = b"x", *, mark: Mark | None = None, seq: str | None = None, closes: bool = False) -> Append:
    """An append of text."""
    return Append(body=body, media_type="text/plain" if body else None, closes=closes, mark=mark, seq=seq)


def perform(ledger: Ledger, append: Append) -> Outcome:
    """Append, if it may be; what became of it."""
    verdict = ledger.judge(append, LIMITS)
    if verdict.outcome == "appended":
        ledger.take(encode_fact(Step("n", NOW_MS, append.closes, append.mark, append.seq)))
        for message in verdict.messages:
            ledger.take(encode_message(message))
    return verdict.outcome


@pytest.mark.parametrize("message", [b"", b"m", b"\x92\xa1o", b"{}"])
def test_a_message_is_told_from_every_other_record(message: bytes) -> None:
    assert message_of(encode_message(message)) == message
    assert message_of(encode_fact(Step("n", NOW_MS))) is None
    assert message_of(encode_fact(Opening("n", NOW_MS, "text/plain"))) is None


def test_the_last_number_is_that_of_a_message_and_grows_with_messages_only() -> None:
    ledger = opened()
    before = ledger.last

    perform(ledger, text())
    after = ledger.last
    ledger.take(encode_fact(Step("n", NOW_MS)))

    assert (before, after, ledger.last, ledger.length) == (0, 3, 3, 4)


def test_an_append_of_another_type_is_none() -> None:
    assert perform(opened(), Append(body=b"{}", media_type="application/json")) == "mismatch"
    assert perform(opened(content_type="TEXT/plain; charset=utf-8"), text()) == "appended"


def test_an_array_is_several_messages_and_an_empty_one_is_none() -> None:
    ledger = opened(content_type="application/json")

    verdicts = [
        ledger.judge(Append(body=body, media_type="application/json"), LIMITS) for body in (b"[1,2]", b"[]", b"[1")
    ]

    assert [verdict.outcome for verdict in verdicts] == ["appended", "invalid", "invalid"]
    assert verdicts[0].messages == [b"1", b"2"]


def test_a_closed_stream_takes_nothing_but_the_same_close() -> None:
    ledger = opened()

    outcomes = [
        perform(ledger, text(closes=True)),
        perform(ledger, text()),
        perform(ledger, text(b"", closes=True)),
        perform(ledger, text(closes=True)),
    ]

    assert outcomes == ["appended", "closed", "duplicate", "closed"]


def test_a_producers_close_may_be_repeated_by_it_and_nobody_else() -> None:
    ledger = opened()
    mark = Mark("ann", 0, 0)
    perform(ledger, text(mark=mark, closes=True))

    assert perform(ledger, text(mark=mark, closes=True)) == "duplicate"
    assert perform(ledger, text(mark=Mark("ann", 0, 1), closes=True)) == "closed"
    assert perform(ledger, text(mark=Mark("bob", 0, 0), closes=True)) == "closed"


def test_a_stream_may_be_created_closed() -> None:
    ledger = opened(closed=True)

    assert ledger.closed
    assert perform(ledger, text()) == "closed"


def test_a_producer_appends_each_number_once_and_in_order() -> None:
    ledger = opened()
    marks = [Mark("ann", 0, seq) for seq in (0, 0, 1, 3, 2, 1)]

    outcomes = [perform(ledger, text(mark=mark)) for mark in marks]

    assert outcomes == ["appended", "duplicate", "appended", "gap", "appended", "duplicate"]


def test_who_is_told_of_a_gap_is_told_what_is_missing() -> None:
    ledger = opened()
    perform(ledger, text(mark=Mark("ann", 0, 0)))

    assert ledger.judge(text(mark=Mark("ann", 0, 5)), LIMITS).mark == Mark("ann", 0, 1)
    assert ledger.judge(text(mark=Mark("bob", 0, 5)), LIMITS).mark == Mark("bob", 0, 0)


def test_a_later_epoch_shuts_out_the_earlier_one_and_begins_at_0() -> None:
    ledger = opened()

    outcomes = [
        perform(ledger, text(mark=Mark("ann", 0, 0))),
        perform(ledger, text(mark=Mark("ann", 2, 1))),
        perform(ledger, text(mark=Mark("ann", 2, 0))),
        perform(ledger, text(mark=Mark("ann", 1, 0))),
    ]

    assert outcomes == ["appended", "not_first", "appended", "fenced"]
    assert ledger.judge(text(mark=Mark("ann", 1, 0)), LIMITS).mark == Mark("ann", 2, 0)


def test_a_writers_own_numbers_have_to_grow_as_text_does() -> None:
    ledger = opened()

    outcomes = [perform(ledger, text(seq=seq)) for seq in ("2", "10", "2", "20", "a", "B")]

    assert outcomes == ["appended", "regress", "regress", "appended", "appended", "regress"]


def test_an_append_without_a_number_leaves_the_numbers_alone() -> None:
    ledger = opened()
    perform(ledger, text(seq="2"))
    perform(ledger, text())

    assert perform(ledger, text(seq="1")) == "regress"


@pytest.mark.parametrize("body", [b"x" * 1_000, b"[" + b"1," * 30 + b"1]"])
def test_a_stream_has_room_for_so_much_and_no_more(body: bytes) -> None:
    ledger = opened(content_type="application/json")

    assert perform(ledger, Append(body=body.replace(b"x", b"1"), media_type="application/json")) == "full"


def test_a_full_stream_can_be_closed() -> None:
    ledger = opened()
    while perform(ledger, text()) == "appended":
        pass

    assert perform(ledger, text(b"", closes=True)) == "appended"


def test_a_stream_remembers_so_many_producers_and_no_more() -> None:
    ledger = opened()

    outcomes = [perform(ledger, text(mark=Mark(name, 0, 0))) for name in ("ann", "bob", "eve")]

    assert outcomes == ["appended", "appended", "full"]
    assert perform(ledger, text(mark=Mark("ann", 0, 1))) == "appended"


@pytest.mark.parametrize(("ttl_seconds", "lifetime_seconds"), [(8, 8), (None, 80)])
def test_a_stream_outlives_its_time_by_an_eighth_at_most(ttl_seconds: int | None, lifetime_seconds: int) -> None:
    ledger = opened(ttl_seconds=ttl_seconds)
    end_ms = NOW_MS + 1_125 * lifetime_seconds

    assert not ledger.is_expired(end_ms - 1, LIMITS)
    assert ledger.is_expired(end_ms, LIMITS)


def test_a_read_is_written_down_when_it_prolongs_the_stream() -> None:
    ledger = opened(ttl_seconds=8)

    assert not ledger.wants_touch(NOW_MS + 1_000, LIMITS)
    assert ledger.wants_touch(NOW_MS + 1_001, LIMITS)
    ledger.take(encode_fact(Step("n", NOW_MS + 1_001)))
    assert not ledger.is_expired(NOW_MS + 10_000, LIMITS)
    assert ledger.is_expired(NOW_MS + 10_001, LIMITS)


def test_reads_are_written_down_as_long_as_there_is_room() -> None:
    ledger = opened(ttl_seconds=8)
    for _ in range(LIMITS.max_records):
        ledger.take(encode_fact(Step("n", NOW_MS)))

    assert not ledger.wants_touch(NOW_MS + 5_000, LIMITS)


def test_a_fixed_end_is_not_moved() -> None:
    ledger = opened(expires_at="2023-11-14T22:13:21Z", expires_ms=NOW_MS + 1_000)

    assert not ledger.wants_touch(NOW_MS + 999, LIMITS)
    assert not ledger.is_expired(NOW_MS + 999, LIMITS)
    assert ledger.is_expired(NOW_MS + 1_000, LIMITS)
