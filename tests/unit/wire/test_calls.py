"""The names of calls."""

from tailrace.events import ToolReady, ToolStarted
from tailrace.wire.calls import CallNames


def test_a_call_begins_with_its_first_event() -> None:
    names = CallNames()

    assert names.begun(ToolStarted(call_id="a", name="add")) == "add"
    assert names.begun(ToolReady(call_id="a", name="add")) is None
    assert names.begun(ToolReady(call_id="b", name="multiply")) == "multiply"
    assert (names.of("a"), names.of("b")) == ("add", "multiply")


def test_a_call_that_nobody_named_has_a_name_all_the_same() -> None:
    names = CallNames()

    assert names.begun(ToolReady(call_id="a")) is None
    assert (names.of("a"), names.of(None)) == ("tool", "tool")
