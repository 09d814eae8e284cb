"""The web server: sends reports to the queue and reads runs to browsers. It writes none itself."""

import asyncio
import secrets
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from celery_job.tasks import LEASE_SECONDS, REDIS_URL, write_report
from tailrace import RunNotFoundError, Tailrace, new_run_id


def visitor(request: Request) -> str | None:
    """Whose runs these are; yours would be the user of a session."""
    return request.cookies.get("visitor")


app = FastAPI()
tail = Tailrace(REDIS_URL, owner=visitor, lease_seconds=LEASE_SECONDS)
tail.install(app, "/runs")


class Report(BaseModel):
    """What the page sends."""

    topic: str
    sections: int = Field(default=8, ge=1, le=50)


@app.post("/reports", status_code=202)
async def start_report(report: Report, request: Request, response: Response) -> dict[str, str]:
    run_id = new_run_id()
    # Celery talks to its broker and waits, which is not for the event loop.
    await asyncio.to_thread(write_report.delay, run_id, visitor(request), report.topic, report.sections)
    status = "running"
    try:
        await tail.attach(run_id, wait_seconds=1)
    except RunNotFoundError:
        # All workers are busy. Until one has begun, the events are not found.
        status = "queued"
        response.headers["retry-after"] = "1"
    return {"run_id": run_id, "status": status, "events_url": tail.url_of(run_id)}


@app.get("/")
async def page(request: Request) -> FileResponse:
    response = FileResponse(Path(__file__).with_name("page.html"))
    if visitor(request) is None:
        response.set_cookie("visitor", secrets.token_urlsafe(), httponly=True, samesite="lax")
    return response
