"""Every cut is tried once and loses nothing."""

from tailrace.testing import cut_anywhere


def test_every_cut_is_made_once() -> None:
    assert list(cut_anywhere(b"ab")) == [(b"", b"ab"), (b"a", b"b"), (b"ab", b"")]


def test_nothing_can_be_cut_in_one_way() -> None:
    assert list(cut_anywhere(b"")) == [(b"", b"")]
