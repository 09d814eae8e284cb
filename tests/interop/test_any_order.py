"""No source can make a stream that a client refuses: whatever it yields, in whatever order, every real client reads on.

Logs of any events in any order, with unknown parts, outputs without calls and ends without beginnings, are written in
each dialect and read whole by each of its clients. The only complaint allowed is that of a run that failed.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tailrace import events
from tailrace.events import Entry
from tailrace.fold import merge
from tailrace.wire.dialects.registry import get_dialect
from tests.interop.conftest import Node
from tests.interop.judge import Judge
from tests.unit.strategies import filled, loose_logs

#: By client: its dialect and the options it is spoken with.
CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ai5": ("ai-sdk", {}),
    "ai6": ("ai-sdk", {"sdk_version": "6"}),
    "ai7": ("ai-sdk", {"sdk_version": "7"}),
    "ag-ui": ("ag-ui", {"protocol_version": "1.0"}),
    "openai6-chat": ("openai", {"include_usage": True}),
    "openai7-chat": ("openai", {}),
    "openai6-responses": ("openai-responses", {}),
    "openai7-responses": ("openai-responses", {}),
}

_FAILURES = (events.RunFailed, events.RunInterrupted)


@pytest.fixture(scope="module")
def judge(node: Node) -> Iterator[Judge]:
    with Judge(node.executable) as judge:
        yield judge


def written(log: Iterable[Entry], dialect: str, options: dict[str, Any]) -> bytes:
    encoder = get_dialect(dialect).encoder(run_id="run", thread_id="thread", **options)
    return b"".join(frame for entry in log for frame in encoder.encode(entry)) + b": end\n"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("client", CLIENTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(log=loose_logs())
def test_a_client_reads_any_log_there_can_be(judge: Judge, client: str, log: list[Entry]) -> None:
    dialect, options = CLIENTS[client]
    failed = isinstance(log[-1].event, _FAILURES)

    for told in (log, filled(log), merge(filled(log))):
        verdict = judge.ask(client, written(told, dialect, options))

        assert verdict.warnings == []
        assert failed or verdict.error is None, verdict.error


#: What each protocol's clients refuse, so that their silence above means something.
ILLEGAL = {
    "ai-sdk": b'data: {"type":"start"}\n\ndata: {"type":"text-delta","id":"1","delta":"x"}\n\ndata: [DONE]\n\n',
    "ag-ui": b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"x"}\n\n',
    "openai": b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{}}]}\n\n',
    "openai-responses": b'data: {"type":"response.output_text.delta","delta":"x","sequence_number":0}\n\n',
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_complains_of_a_stream_that_is_illegal(judge: Judge, client: str) -> None:
    verdict = judge.ask(client, ILLEGAL[CLIENTS[client][0]])

    assert verdict.error or verdict.warnings
