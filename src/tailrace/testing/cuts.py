"""Cutting bytes as a network may cut them."""

from collections.abc import Iterator

__all__ = ["cut_anywhere"]


def cut_anywhere(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every way to cut `data` in two, at its beginning and its end included: `len(data) + 1` pairs."""
    for place in range(len(data) + 1):
        yield data[:place], data[place:]
