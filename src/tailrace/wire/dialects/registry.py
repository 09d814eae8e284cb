"""All dialects by name."""

from tailrace.errors import DialectNotFoundError
from tailrace.wire.dialects import ag_ui, ai_sdk, chunks, native, openai, openai_responses, steps, text, tokens
from tailrace.wire.dialects.contract import Dialect

__all__ = ["DIALECTS", "get_dialect"]

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        native.DIALECT,
        chunks.DIALECT,
        tokens.DIALECT,
        steps.DIALECT,
        text.DIALECT,
        ai_sdk.DIALECT,
        ag_ui.DIALECT,
        openai.DIALECT,
        openai_responses.DIALECT,
    )
}


def get_dialect(name: str) -> Dialect:
    """The dialect called `name`.

    Raises:
        DialectNotFoundError: There is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise DialectNotFoundError(name) from None
