"""The web server: one request starts the work, another one listens to it, and a cookie tells which work is whose."""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.sessions import SessionMiddleware

from tailrace import Tailrace
from tailrace.web.body import read_json

EVENTS = 5
#: Factor on every wait; 0 waits for nothing.
PACE = float(os.environ.get("PACE", "1"))
#: Runs at the same time, of one visitor and of all.
RUNS_OF_ONE, RUNS_OF_ALL = 3, 1_000
RUN_SECONDS = 60
BODY_BYTES = 16_384
PAGE = Path(__file__).with_name("page")

logging.basicConfig(level=logging.INFO)
_log = logging.getLogger("s0_two_step")


def visitor(request: Request) -> str:
    """Whose runs these are: who comes without a cookie is somebody new."""
    return str(request.session.setdefault("visitor", secrets.token_urlsafe()))


app = FastAPI()
tail = Tailrace(owner=visitor)
tail.install(app, "/runs")
app.add_middleware(
    SessionMiddleware,
    # Signed, HttpOnly and SameSite; with a secret of yours it outlives a restart, and behind HTTPS it should be Secure.
    secret_key=os.environ.get("SESSION_SECRET") or secrets.token_urlsafe(32),
    https_only="HTTPS_ONLY" in os.environ,
    same_site="lax",
)


class Question(msgspec.Struct):
    """What the page sends."""

    question: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


async def question_of(request: Request) -> Question:
    """The body of the request, if it is small and JSON."""
    return await read_json(request, Question, limit_bytes=BODY_BYTES)


@app.post("/start-events/")
async def start_events(question: Annotated[Question, Depends(question_of)], request: Request) -> dict[str, str]:
    owner = visitor(request)
    if tail.live_count >= RUNS_OF_ALL or len(await tail.active(owner=owner)) >= RUNS_OF_ONE:
        raise HTTPException(429, "Too much is under way.", {"retry-after": "5"})
    run = await tail.start(lambda: generate(question.question), owner=owner, timeout=RUN_SECONDS)
    request.session["run"] = run.id
    return {"message": "Event generation started", "run_id": run.id, "events_url": f"{run.url}?dialect=text"}


@app.get("/stream-events/")
async def stream_events(request: Request) -> Response:
    """The visitor's latest run, for who comes for the first time; who comes back goes on where they were."""
    return tail.resume(request.session.get("run"), dialect="text", json="never")


async def generate(question: str) -> AsyncGenerator[str]:
    """The work: here a script, elsewhere a model.

    Raises:
        RuntimeError: Asked to fail; its text is for the server's log only.
    """
    _log.info("generation began")
    for number in range(1, EVENTS + 1):
        await asyncio.sleep(PACE)
        if "fail" in question and number == EVENTS:
            raise RuntimeError("generator broke: password=hunter2")
        yield f"Event {number} for question: {question}"


@app.get("/")
async def page(request: Request) -> FileResponse:
    # Who opens the page is somebody from now on, so that two tabs which ask at the same moment are not two visitors.
    visitor(request)
    return FileResponse(PAGE / "index.html")


app.mount("/", StaticFiles(directory=PAGE))
