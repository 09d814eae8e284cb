"""The web server: answers of a model as server-sent events, for EventSource, for fetch, and for programs."""

import hmac
import logging
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

from flask import Flask, Request, Response, abort, request, session
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from s1_sse_overview.model import APOLOGY_FOR, MODEL, model
from tailrace.events import RunFailed
from tailrace.web.flask import FlaskTailrace
from tailrace.web.mounts.contract import AgentRequest

APOLOGY = "We're sorry, the server was too busy to handle this response.  Please try again."
#: What a client may ask of the model, and within which bounds.
OPTIONS = {
    "temperature": (0.0, 2.0),
    "max_tokens": (1, 1024),
    "top_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}
LONGEST_MESSAGE = 2_000
RUN_SECONDS = 60
#: At the same time. An answer outlives its reader, so that the streams that are open are not all that counts.
RUNS = int(os.environ.get("RUNS", "100"))
STARTS = {"/events", "/v1/chat/completions", "/v1/responses"}
#: Of the server, see run.py. A stream holds one; some are kept for requests that are over at once.
THREADS = int(os.environ.get("THREADS", "32"))
#: For programs, which send it as `Authorization: Bearer …`. The provider's key never leaves this process.
API_TOKEN = os.environ.get("API_TOKEN") or secrets.token_urlsafe()

logging.basicConfig(level=logging.INFO)
_log = logging.getLogger("s1_sse_overview")


def caller(request: Request) -> str:
    """Whose request it is: a program's, by its token, or that of a browser which was given a cookie with the page.

    EventSource cannot send a header. It does send the cookie, to this origin only.

    Raises:
        Unauthorized: It is neither.
    """
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        if hmac.compare_digest(authorization.encode(), f"Bearer {API_TOKEN}".encode()):
            return "program"
    elif "visitor" in session:
        return f"visitor {session['visitor']}"
    raise Unauthorized(www_authenticate=WWWAuthenticate("bearer"))


app = Flask(__name__, static_folder="page", static_url_path="")
# Signed, and not readable by scripts. Strict: no other site can have a visitor's browser start an answer.
app.config["SECRET_KEY"] = os.environ.get("SESSION_SECRET") or secrets.token_urlsafe()
app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
app.config["SESSION_COOKIE_SECURE"] = "HTTPS_ONLY" in os.environ
tail = FlaskTailrace(owner=caller, max_streams=THREADS - 4)
tail.install(app, "/runs")


@app.before_request
def refuse_too_many() -> None:
    """Who comes back starts nothing.

    Raises:
        TooManyRequests: Too much is under way.
    """
    if request.path in STARTS and "last-event-id" not in request.headers and tail.runs.live_count >= RUNS:
        raise TooManyRequests(retry_after=5)


@app.get("/")
def page() -> Response:
    session.setdefault("visitor", secrets.token_urlsafe())
    return app.send_static_file("index.html")


@app.get("/events")
def events() -> Response:
    """An answer for EventSource: a message per piece, then `new-message` with all of it, then `run.ended`."""
    message = request.args.get("message", "")
    if not 0 < len(message) <= LONGEST_MESSAGE:
        abort(400)
    # With a key the same URL, opened again, finds the answer that is there: React does so in its strict mode.
    key = request.args.get("key")
    return tail.stream(lambda: announced(message), key=key, dialect="text", json="never", timeout=RUN_SECONDS)


def agent(asked: AgentRequest) -> Generator[str | RunFailed]:
    """Behind the endpoint that has OpenAI's shape: `POST /v1/chat/completions`."""
    return complete(asked.body["messages"], asked.body)


tail.install_surface(app, tail.runs.openai(agent, models=[MODEL]))


def announced(message: str) -> Generator[dict[str, Any] | RunFailed]:
    """The answer as messages of JSON, and then an event of its own name with all of it."""
    said: list[str] = []
    with closing(complete([{"role": "user", "content": message}], {})) as pieces:
        for piece in pieces:
            if isinstance(piece, RunFailed):
                # As a message too, for pages that listen to nothing else.
                yield _message("token", f"\n\n{APOLOGY}" if said else APOLOGY)
                yield piece
                return
            said.append(piece)
            yield _message("token", piece)
    yield _message("new-message", "".join(said), to="new-message")


def _message(kind: str, data: str, *, to: str = "message") -> dict[str, Any]:
    """An event whose data says once more what it is, for pages that have one handler for all."""
    return {"event": to, "data": {"event": kind, "data": data}}


def complete(messages: list[dict[str, Any]], asked: Mapping[str, Any]) -> Generator[str | RunFailed]:
    """What the model says, piece by piece. A plain generator: it runs on a thread of its own, not in the request."""
    stream = None
    try:
        _log.info("the model is asked")
        stream = model.chat.completions.create(model=MODEL, messages=messages, stream=True, **_options(asked))
        for chunk in stream:
            # The first and the last chunk have no text, and the one with the usage has no choice.
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
    except APOLOGY_FOR:
        _log.exception("the model failed")
        yield RunFailed(code="provider_unavailable", message=APOLOGY)
    finally:
        if stream is not None:
            stream.close()


def _options(asked: Mapping[str, Any]) -> dict[str, float]:
    """What the request asks of the model, brought within the bounds."""
    return {
        name: min(max(value, low), high)
        for name, (low, high) in OPTIONS.items()
        if isinstance(value := asked.get(name), int | float)
    }
