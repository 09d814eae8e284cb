"""The body of a request, as far as its size and shape allow."""

from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from tailrace.web.errors import RequestInvalidError

__all__ = ["read_bytes", "read_json"]

_T = TypeVar("_T")


async def read_bytes(request: Request, *, limit_bytes: int) -> bytes:
    """The body as it is, read here, and once.

    Raises:
        RequestInvalidError: It is longer than `limit_bytes` (413); the rest is not read. Or the client left before it
            had sent all of it.
    """
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw.extend(chunk)
            if len(raw) > limit_bytes:
                raise RequestInvalidError(f"The body is larger than {limit_bytes} bytes.", status=413)
    except ClientDisconnect:
        # Nobody gets this answer; without it the server's log would have a traceback for everybody who leaves.
        raise RequestInvalidError("The body is not whole.") from None
    return bytes(raw)


async def read_json(request: Request, shape: type[_T], *, limit_bytes: int) -> _T:
    """The body as a `shape`.

    Args:
        request: Whose body it is; read here, and once.
        shape: Anything msgspec decodes into.
        limit_bytes: A longer body is refused before it is read whole.

    Raises:
        RequestInvalidError: It is not declared as JSON (415), is too long (413) or of another shape (422).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A page of another origin can send any other type without being asked.
        raise RequestInvalidError("The body must be application/json.", status=415)
    raw = await read_bytes(request, limit_bytes=limit_bytes)
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        # Names the field and the type it should have; of the body at most a short piece.
        raise RequestInvalidError(f"The body is not what this route takes: {error}.", status=422) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestInvalidError("The body is no JSON.", status=422) from None
