"""The web server: `POST /query` streams the assistant's answer, also to the pages of the shop, which is elsewhere."""

import os
import secrets
from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware

from s2_sales_assistant.assistant import Sessions, answer
from tailrace import Event, RunResponse, Tailrace
from tailrace.web.body import read_json

#: The pages that may ask, by origin.
SHOP_ORIGINS = os.environ.get("SHOP_ORIGINS", "http://127.0.0.1:8001 http://localhost:8001").split()
#: Answers at the same time, to one visitor and to all.
RUNS_OF_ONE, RUNS_OF_ALL = 4, 1_000
ANSWER_SECONDS = 60
BODY_BYTES = 32_768

if "*" in SHOP_ORIGINS:
    raise SystemExit("any page could read with a visitor's cookie: name the origins of yours")


def visitor(request: Request) -> str:
    """Whose sessions these are: who comes without a cookie is somebody new."""
    return str(request.session.setdefault("visitor", secrets.token_urlsafe()))


app = FastAPI()
tail = Tailrace(owner=visitor)
tail.install(app, "/runs")
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ.get("SESSION_SECRET") or secrets.token_urlsafe(32),
    https_only="HTTPS_ONLY" in os.environ,
    same_site="lax",
)
app.add_middleware(
    CORSMiddleware,
    allow_origins=SHOP_ORIGINS,
    allow_credentials=True,
    allow_methods=["GET", "POST"],
    allow_headers=["content-type", "idempotency-key", "last-event-id"],
    expose_headers=["location"],
)
sessions = Sessions()


class Query(msgspec.Struct):
    """What the page sends."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)]
    session_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


async def query_of(request: Request) -> Query:
    """The body of the request, if it is small and JSON."""
    return await read_json(request, Query, limit_bytes=BODY_BYTES)


@app.post("/query")
async def query(asked: Annotated[Query, Depends(query_of)], request: Request) -> RunResponse:
    owner = visitor(request)
    if tail.live_count >= RUNS_OF_ALL or len(await tail.active(owner=owner)) >= RUNS_OF_ONE:
        raise HTTPException(429, "Too many answers are under way.", {"retry-after": "5"})

    def begin() -> AsyncGenerator[str | Event]:
        """Called once for a run, so a request that is sent again adds nothing to the session."""
        return answer(asked.query, sessions.add(owner, asked.session_id, asked.query))

    return tail.stream(
        begin,
        owner=owner,
        thread=asked.session_id,
        fingerprint=[asked.query, asked.session_id],
        dialect="chunks",
        timeout=ANSWER_SECONDS,
    )
