"""Tickets: keys to one run's log for who can send no header, such as `EventSource`, and shall put no token in a URL.

A ticket is random and good once, for a short time and for reading one run. The store keeps its hash, so whoever reads
the store or a backup of it has no tickets; what the ticket stands for is kept beside it and is in no URL.
"""

import hashlib
import secrets
from typing import ClassVar

import msgspec
from starlette.requests import Request

from tailrace.web.errors import RefusedError
from tailrace.web.owners import expires
from tailrace.web.service import RunService

__all__ = ["TICKET_PARAMETER", "Ticket", "TicketInvalidError", "TooManyTicketsError", "issue", "reader_of"]

#: The query parameter that a ticket is sent in.
TICKET_PARAMETER = "ticket"

_TICKET_BYTES = 32
_TICKETS_PER_RUN = 16
_LONGEST_TICKET = 128


class TicketInvalidError(RefusedError):
    """A ticket that was used, is too old, of another run, or none at all; which of them is not told."""

    code: ClassVar[str] = "ticket_invalid"

    def __init__(self) -> None:
        """There is one answer to all of them."""
        super().__init__("This ticket is not valid, or no longer.", status=401, headers={"www-authenticate": "Bearer"})


class TooManyTicketsError(RefusedError):
    """A run has as many unused tickets as it may have."""

    code: ClassVar[str] = "too_many_tickets"

    def __init__(self, retry_after_seconds: float) -> None:
        """After so long the first of them are over."""
        super().__init__("This run has too many unused tickets.", status=429, retry_after_seconds=retry_after_seconds)


class Ticket(msgspec.Struct, frozen=True):
    """A ticket. Its text is a secret.

    Attributes:
        text: What is sent.
        expires_at_ms: Until when, in Unix milliseconds.
    """

    text: str
    expires_at_ms: int


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    """Who a ticket stands for, and until when that identity holds."""

    owner: str
    until_seconds: float | None


async def issue(tail: RunService, run_id: str, owner: str, *, until_seconds: float | None) -> Ticket:
    """A ticket to a run for its owner.

    Args:
        tail: The runs.
        run_id: The run; the caller has checked that it is the owner's.
        owner: Whom the ticket will stand for.
        until_seconds: Unix seconds until which the owner's identity holds; a stream that the ticket opens ends then.

    Raises:
        TooManyTicketsError: The run has too many that were not used.
        RunNotFoundError: The run is gone.
        StoreUnavailableError: The store gave no answer.
    """
    text = secrets.token_urlsafe(_TICKET_BYTES)
    now_seconds = tail.clock.time_ms() / 1_000
    left = tail.ticket_seconds if until_seconds is None else min(tail.ticket_seconds, until_seconds - now_seconds)
    live_seconds = max(0.0, left)
    claim = msgspec.json.encode(_Claim(owner, until_seconds))
    if not await tail.store.put_note(run_id, _name_of(text), claim, live_seconds=live_seconds, most=_TICKETS_PER_RUN):
        raise TooManyTicketsError(tail.ticket_seconds)
    return Ticket(text, int((now_seconds + live_seconds) * 1_000))


async def reader_of(tail: RunService, request: Request) -> str | None:
    """Whose request to read a run it is: the ticket's owner if it comes with one, else as everywhere.

    Raises:
        TicketInvalidError: The ticket is not good for this run now.
        StoreUnavailableError: The store gave no answer.
        HTTPException: Whatever the application's function raises.
    """
    texts = request.query_params.getlist(TICKET_PARAMETER)
    # HEAD reads nothing, and shall not use up a ticket.
    if not texts or request.method != "GET":
        return await tail.owner(request)
    if len(texts) != 1 or len(texts[0]) > _LONGEST_TICKET:
        raise TicketInvalidError
    note = await tail.store.take_note(request.path_params["run_id"], _name_of(texts[0]))
    if note is None:
        raise TicketInvalidError
    claim = msgspec.json.decode(note, type=_Claim)
    if claim.until_seconds is not None:
        expires(request, claim.until_seconds)
    if not tail.holds(request.scope):
        raise TicketInvalidError
    return claim.owner


def _name_of(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
