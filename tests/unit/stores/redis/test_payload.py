"""What a write is as bytes reads back as it was, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.stores.contract import Batch
from tailrace.stores.redis.payload import decode_payload, encode_payload

batches = st.builds(
    Batch, first=st.integers(1, 2**53), records=st.lists(st.binary(max_size=300)), state=st.integers(0, 255)
)


@given(batches)
def test_a_write_reads_back_as_it_was(batch: Batch) -> None:
    payload = encode_payload(batch.first, batch.records, batch.state)

    assert decode_payload(payload) == batch


@given(batches, st.data())
def test_a_write_that_was_cut_is_none(batch: Batch, data: st.DataObject) -> None:
    payload = encode_payload(batch.first, [*batch.records, b"last"], batch.state)
    whole = [
        len(encode_payload(batch.first, batch.records[:count], batch.state)) for count in range(len(batch.records) + 1)
    ]
    cut = data.draw(st.integers(0, len(payload) - 1).filter(lambda at: at not in whole))

    with pytest.raises(ValueError, match=r"header|cut"):
        decode_payload(payload[:cut])


@pytest.mark.parametrize(
    "payload",
    [b"hello", b'{"event": "message", "data": "something longer than a header"}', b"\x02" + bytes(9), bytes(10)],
)
def test_what_another_application_publishes_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|version"):
        decode_payload(payload)
