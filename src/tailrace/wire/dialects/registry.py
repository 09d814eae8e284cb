"""All dialects by name."""

from tailrace.errors import DialectNotFoundError
from tailrace.wire.dialects import native, tokens
from tailrace.wire.dialects.contract import Dialect

__all__ = ["DIALECTS", "get_dialect"]

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (native.DIALECT, tokens.DIALECT)}


def get_dialect(name: str) -> Dialect:
    """The dialect called `name`.

    Raises:
        DialectNotFoundError: There is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise DialectNotFoundError(name) from None
