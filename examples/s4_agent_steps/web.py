"""The web server: an agent's steps as named events, by GET for `EventSource` and by POST for `fetch`."""

import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as UrlPath
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles

from s4_agent_steps import agent
from tailrace import RunResponse, Tailrace, TailraceError
from tailrace.web.body import read_json
from tailrace.web.errors import error_response
from tailrace.wire.dialects.registry import get_dialect

#: Pages elsewhere that may listen, by origin.
ALLOWED_ORIGINS = os.environ.get("ALLOWED_ORIGINS", "").split()
#: How long a run may take, whatever it waits for.
TOTAL_SECONDS = float(os.environ.get("TOTAL_SECONDS", "30"))
#: How long a run whose disconnect counts waits for its reader: a browser that lost the connection is back within 3 s.
GRACE_SECONDS = float(os.environ.get("GRACE_SECONDS", "5"))
LONGEST_COUNTDOWN = 60
RUNS_OF_ALL = int(os.environ.get("RUNS_OF_ALL", "200"))
BODY_BYTES = 16_384

logging.basicConfig(level=logging.INFO)
_log = logging.getLogger("s4_agent_steps")

app = FastAPI()
# Nobody signs in here, so a run belongs to whoever knows its id, 128 random bits: it needs no cookie, on any origin.
tail = Tailrace()
tail.install(app, "/runs")
app.add_middleware(
    CORSMiddleware,
    allow_origins=ALLOWED_ORIGINS,
    allow_methods=["GET", "POST"],
    allow_headers=["content-type", "idempotency-key", "last-event-id"],
    expose_headers=["location"],
)

TaskId = Annotated[str, UrlPath(min_length=1, max_length=128)]
Question = Annotated[str, Query(min_length=1, max_length=1_000)]
_steps = get_dialect("steps")


class Task(msgspec.Struct):
    """What is to be done."""

    task_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    operation: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


async def task_of(request: Request) -> Task:
    """The body of the request, if it is small and JSON."""
    return await read_json(request, Task, limit_bytes=BODY_BYTES)


@app.exception_handler(TailraceError)
async def refused(_: Request, error: TailraceError) -> Response:
    return error_response(error, _steps)


def run(
    name: str,
    source: Callable[[], agent.Source],
    *,
    task_id: str | None = None,
    seconds: float = TOTAL_SECONDS,
    on_disconnect: Literal["detach", "cancel"] = "detach",
    json: Literal["never", "always"] = "never",
) -> RunResponse:
    """Start the work, and show its steps. A GET that returns with a `Last-Event-ID` starts nothing: it reads on."""
    return tail.stream(
        lambda: logged(name, source()),
        dialect="steps",
        dialect_options={"task_id": task_id} if task_id else None,
        json=json,
        timeout=seconds,
        on_disconnect=on_disconnect,
        grace_seconds=GRACE_SECONDS,
    )


async def logged(name: str, source: agent.Source) -> AsyncGenerator[Any]:
    """The source, with a line in the server's log for each generation that begins and ends.

    Raises:
        HTTPException: 429, too many are under way.
    """
    if tail.live_count > RUNS_OF_ALL:
        # Raised before the first event, so it is a status, and the run never was. Who returns to a run is not counted.
        raise HTTPException(429, "Too much is under way.", {"retry-after": "5"})
    _log.info("%s began", name)
    try:
        async with aclosing(source):
            async for item in source:
                yield item
    finally:
        _log.info("%s is over", name)


# A first look --------------------------------------------------------------------------------------------------------


@app.get("/stream")
async def stream() -> RunResponse:
    return run("send_messages", agent.send_messages)


@app.get("/stream/hello")
async def hello() -> RunResponse:
    return run("greet", agent.greet)


@app.get("/stream/progress")
async def progress() -> RunResponse:
    return run("progress", agent.progress)


@app.get("/countdown/{seconds}")
async def countdown(seconds: Annotated[int, UrlPath(ge=0, le=LONGEST_COUNTDOWN)]) -> RunResponse:
    return run("count_down", lambda: agent.count_down(seconds), seconds=TOTAL_SECONDS + seconds)


# The same work, waited for and watched -------------------------------------------------------------------------------


@app.post("/process")
async def process() -> RunResponse:
    """The slow twin: nothing is seen of the work until all of it is done."""
    return run("process", agent.process, json="always")


@app.get("/process/stream")
async def process_stream() -> RunResponse:
    return run("process", agent.process)


# Agents --------------------------------------------------------------------------------------------------------------


@app.get("/agent/stream")
async def agent_stream(query: Question) -> RunResponse:
    return run("answer", lambda: agent.answer(query))


@app.post("/agent/process/stream")
async def agent_process(query: Question) -> RunResponse:
    return run("answer", lambda: agent.answer(query))


@app.get("/agent/think/stream")
async def agent_think(query: Question) -> RunResponse:
    return run("think", lambda: agent.think(query))


# Tasks ---------------------------------------------------------------------------------------------------------------


@app.get("/tasks/{task_id}/progress/stream")
async def task_progress(task_id: TaskId) -> RunResponse:
    return run("progress", agent.progress, task_id=task_id)


@app.post("/tasks/execute/stream")
async def task_execute(task: Annotated[Task, Depends(task_of)]) -> RunResponse:
    return run("execute", lambda: agent.execute(task.operation), task_id=task.task_id)


@app.post("/tasks/{task_id}/execute/stream")
async def task_execute_by_id(task_id: TaskId) -> RunResponse:
    return run("execute", lambda: agent.execute("execute the task"), task_id=task_id)


# When things go wrong ------------------------------------------------------------------------------------------------


@app.get("/stream/safe")
async def safe() -> RunResponse:
    return run("break_down", agent.break_down)


@app.get("/stream/detect-disconnect")
async def detect_disconnect() -> RunResponse:
    return run("count_up", agent.count_up, on_disconnect="cancel")


@app.get("/stream/timeout")
async def timeout() -> RunResponse:
    return run("hang", agent.hang)


app.mount("/", StaticFiles(directory=Path(__file__).with_name("page"), html=True))
