"""One write as bytes: what stands in an entry of a run's stream, and the very same what its channel carries.

A version byte, the state, the first number, then each record after its length; all integers are big-endian. It is built
once and copied by Redis, never parsed there. Whoever shares the server may publish on our channels: what does not
divide exactly into records is not ours. An empty payload is published where followers should look at the log.
"""

import struct
from collections.abc import Sequence

from tailrace.stores.contract import Batch

__all__ = ["decode_payload", "encode_payload"]

_VERSION = 1
_HEADER = struct.Struct(">BBQ")
_LENGTH = struct.Struct(">I")


def encode_payload(first: int, records: Sequence[bytes], state: int) -> bytes:
    """The bytes of a write."""
    length = _LENGTH.pack
    parts = [_HEADER.pack(_VERSION, state, first)]
    for record in records:
        parts += (length(len(record)), record)
    return b"".join(parts)


def decode_payload(payload: bytes) -> Batch:
    """The write that `encode_payload` made bytes of.

    Raises:
        ValueError: It made no such bytes.
    """
    end = len(payload)
    if end < _HEADER.size:
        raise ValueError("shorter than a header")
    version, state, first = _HEADER.unpack_from(payload)
    if version != _VERSION:
        raise ValueError("of no known version")
    records: list[bytes] = []
    at = _HEADER.size
    while at < end:
        start = at + _LENGTH.size
        if start > end:
            raise ValueError("cut inside a length")
        at = start + int.from_bytes(payload[at:start])
        records.append(payload[start:at])
    if at != end:
        raise ValueError("cut inside a record")
    return Batch(first, records, state)
