"""The shop's own web server: its page is of another origin than the assistant that it asks."""

import os
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import RequestResponseEndpoint

ASSISTANT_URL = os.environ.get("ASSISTANT_URL", "http://127.0.0.1:8000")
#: The page loads nothing from elsewhere, and asks nobody but the assistant.
_POLICY = f"default-src 'self'; img-src 'self' data:; connect-src 'self' {ASSISTANT_URL}; base-uri 'none'"

app = FastAPI()


@app.middleware("http")
async def with_policy(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["content-security-policy"] = _POLICY
    return response


@app.get("/assistant.json")
async def assistant() -> dict[str, str]:
    """Where the page asks."""
    return {"url": ASSISTANT_URL}


app.mount("/", StaticFiles(directory=Path(__file__).with_name("page"), html=True))
