"""The routes of conversations. Every one asks whose request it is; what is another's is as if it were not there."""

import asyncio
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.chat.conversations.export import as_json, as_markdown, disposition
from tailrace.chat.conversations.records import ConversationDocument, ConversationPage
from tailrace.chat.conversations.settling import Settler
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.contract import Identify
from tailrace.web.body import read_json
from tailrace.web.errors import RequestInvalidError
from tailrace.web.install import RouteRow

__all__ = ["ConversationChange", "ConversationRoutes"]

_BODY_BYTES = 64 * 1024
_LIMIT = 50
_MOST = 100


class ConversationChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a `PATCH`: what is to be different, and the revision that the client has seen."""

    title: str | None = None
    head_id: str | None = None
    revision: int | None = None


class ConversationRoutes:
    """The endpoints."""

    def __init__(self, conversations: Conversations, settler: Settler, identify: Identify) -> None:
        """Bind them.

        Args:
            conversations: What they show and change.
            settler: Finishes what has ended before it is shown.
            identify: Finds out whose request it is.
        """
        self._conversations = conversations
        self._settler = settler
        self._identify = identify

    def table(self) -> list[RouteRow]:
        """All routes, below `/conversations`."""
        one = "/{conversation_id}"
        page = {
            "query": "Only conversations with this in their title or in a message",
            "limit": f"How many at most, 1 to {_MOST}",
            "cursor": "The `next_cursor` of the page before",
        }
        tree = {"tree": "1: all branches, instead of the one that is shown"}
        form = {"format": "md: the branch that is shown; json: everything"}
        return [
            RouteRow("/", "GET", self.list, "List conversations", query=page),
            RouteRow(one, "GET", self.get, "A conversation with its messages", query=tree),
            RouteRow(one, "PATCH", self.change, "Rename, or show another branch", body=ConversationChange),
            RouteRow(one, "DELETE", self.delete, "Delete a conversation"),
            RouteRow(f"{one}/export", "GET", self.export, "A conversation as a file", query=form),
        ]

    async def list(self, request: Request) -> Response:
        """`GET /?query=&limit=&cursor=`: `{"conversations": […], "next_cursor"}`, the one that changed last first.

        Raises:
            RequestInvalidError: A parameter is out of bounds.
            ConversationsUnavailableError: The database gave no answer.
        """
        owner = (await self._identify(request)).owner
        page = await self._page(request, owner)
        running = [each.id for each in page.conversations if each.running]
        if running and await self._settler.settle(await self._conversations.open_turns(owner, running)):
            page = await self._page(request, owner)
        return _json(page)

    async def get(self, request: Request) -> Response:
        """`GET /{id}?tree=`: the conversation, with messages.

        Raises:
            ConversationNotFoundError: Unknown, or another's.
            ConversationsUnavailableError: The database gave no answer.
        """
        return _json(await self._settled(request, tree=request.query_params.get("tree") == "1"))

    async def change(self, request: Request) -> Response:
        """`PATCH /{id}`: the conversation without messages, as it is then.

        Raises:
            RequestInvalidError: The body is not what it should be.
            ConversationNotFoundError: Unknown, or another's; or the message is.
            RevisionConflictError: It has another revision than the given one.
            ConversationsUnavailableError: The database gave no answer.
        """
        owner = (await self._identify(request)).owner
        body = await read_json(request, ConversationChange, limit_bytes=_BODY_BYTES)
        changed = await self._conversations.change(
            owner, _id(request), title=body.title, head_id=body.head_id, revision=body.revision
        )
        return _json(changed)

    async def delete(self, request: Request) -> Response:
        """`DELETE /{id}`: 204; what is being answered in it is cancelled.

        Raises:
            ConversationNotFoundError: Unknown, or another's.
            ConversationsUnavailableError: The database gave no answer.
        """
        owner = (await self._identify(request)).owner
        await self._settler.cancel(await self._conversations.delete(owner, _id(request)))
        return Response(None, 204, {"cache-control": "no-store"})

    async def export(self, request: Request) -> Response:
        """`GET /{id}/export?format=`: a file.

        Raises:
            RequestInvalidError: There is no such format.
            ConversationNotFoundError: Unknown, or another's.
            ConversationsUnavailableError: The database gave no answer.
        """
        form = _format(request)
        document = await self._settled(request, tree=form == "json")
        # It may be long; others do not wait for it.
        body = await asyncio.to_thread(as_json if form == "json" else as_markdown, document)
        media_type = "application/json" if form == "json" else "text/markdown; charset=utf-8"
        headers = {**_HEADERS, "content-disposition": disposition(document.title, form)}
        return Response(body, 200, headers, media_type=media_type)

    async def _page(self, request: Request, owner: str) -> ConversationPage:
        params = request.query_params
        return await self._conversations.list(
            owner,
            query=params.get("query", ""),
            limit=_whole_number(params.get("limit", str(_LIMIT))),
            cursor=params.get("cursor") or None,
        )

    async def _settled(self, request: Request, *, tree: bool) -> ConversationDocument:
        """The conversation, after what has ended in it was finished."""
        owner, conversation_id = (await self._identify(request)).owner, _id(request)
        await self._settler.catch_up(owner, conversation_id)
        return await self._conversations.get(owner, conversation_id, tree=tree)


_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), 200, _HEADERS, media_type="application/json")


def _id(request: Request) -> str:
    conversation_id: str = request.path_params["conversation_id"]
    return conversation_id


def _whole_number(text: str) -> int:
    """The number.

    Raises:
        RequestInvalidError: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST))):
        raise RequestInvalidError(f"The limit is a number from 1 to {_MOST}.", status=422)
    return int(text)


def _format(request: Request) -> Literal["md", "json"]:
    """The format that is asked for; Markdown, if none is.

    Raises:
        RequestInvalidError: There is no such format.
    """
    match request.query_params.get("format", "md"):
        case "md":
            return "md"
        case "json":
            return "json"
        case _:
            raise RequestInvalidError("The format is md or json.", status=422)
