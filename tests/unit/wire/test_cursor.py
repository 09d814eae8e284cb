"""Cursors survive the trip through a header, and nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import CursorInvalidError
from tailrace.wire.cursor import RUN_ID_PATTERN, START, Cursor

cursors = st.builds(
    Cursor,
    seq=st.integers(0, 10**15 - 1),
    frames=st.integers(0, 10**6 - 1),
    run_id=st.none() | st.from_regex(f"(?a:{RUN_ID_PATTERN})", fullmatch=True),
)


@given(cursors)
def test_a_cursor_reads_back_what_it_wrote(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(max_size=12) | st.from_regex(r"[a-z:.0-9]{1,8}", fullmatch=True))
def test_any_text_is_refused_or_written_again_as_the_same_cursor(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except CursorInvalidError:
        return

    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("0", START),
        ("7", Cursor(7)),
        ("7.2", Cursor(7, 2)),
        ("7.0", Cursor(7)),
        ("007.02", Cursor(7, 2)),
        ("run:7", Cursor(7, run_id="run")),
        ("run:7.2", Cursor(7, 2, "run")),
        ("5:7", Cursor(7, run_id="5")),
        ("R_u-n:0", Cursor(0, run_id="R_u-n")),
        ("x" * 64 + ":7", Cursor(7, run_id="x" * 64)),
        ("9" * 15 + "." + "9" * 6, Cursor(10**15 - 1, 10**6 - 1)),
    ],
)
def test_every_form_is_read(text: str, cursor: Cursor) -> None:
    assert Cursor.parse(text) == cursor


@pytest.mark.parametrize(
    ("cursor", "text"),
    [
        (START, "0"),
        (Cursor(7), "7"),
        (Cursor(7, 2), "7.2"),
        (Cursor(0, 1), "0.1"),
        (Cursor(7, run_id="run"), "run:7"),
        (Cursor(7, 2, "run"), "run:7.2"),
    ],
)
def test_a_cursor_is_written_in_one_way(cursor: Cursor, text: str) -> None:
    assert str(cursor) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " 7",
        "7 ",
        "7\n",
        "\ufeff7",
        "-1",
        "+1",
        "7.",
        ".2",
        "7.-2",
        "7.2.1",
        "7,2",
        "1e3",
        "0x7",
        "1_000",
        "\u0667",
        "7.\u0662",
        "\uff17",
        "run",
        "run:",
        ":7",
        "run:x",
        "run: 7",
        "run:7:8",
        "a:b:7",
        "-run:7",
        "_run:7",
        "r n:7",
        "r/n:7",
        "r\u00fcn:7",
        "run\n:7",
        "x" * 65 + ":7",
        "7." + "1" * 7,
        pytest.param("9" * 5_000, id="5000 digits"),
        "null",
        "[object Object]",
    ],
)
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalidError):
        Cursor.parse(text)


def test_a_number_is_never_more_than_a_browser_can_count_exactly() -> None:
    with pytest.raises(CursorInvalidError):
        Cursor.parse(str(2**53))
