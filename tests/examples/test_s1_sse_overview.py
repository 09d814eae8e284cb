"""The overview's Flask application under gunicorn: with EventSource, fetch, React, curl and OpenAI's own client."""

import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openai
import pytest
from playwright.async_api import Page, Request, expect

from tailrace.wire.sse import ServerSentEvent
from tests.examples.program import EXAMPLES, Program
from tests.examples.serving import PATIENCE_MS, Site, post_json
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.missing import missing

TOKEN = "the token of the tests"
BEARER = {"authorization": f"Bearer {TOKEN}"}
APOLOGY = "We're sorry, the server was too busy to handle this response.  Please try again."
LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"
SERVER = ("-m", "gunicorn", "--no-control-socket", "--worker-class", "gthread", "--bind", "127.0.0.1:0")
EXAMPLE = EXAMPLES / "s1_sse_overview"
READERS = Path(__file__).parent / "readers"
NODE_MODULES = Path(__file__).parents[1] / "interop" / "node_modules"
_questions = itertools.count()


def serving(environment: dict[str, str]) -> Iterator[Site]:
    said = {"API_TOKEN": TOKEN, "PACE": "0", "THREADS": "16", **environment}
    with Program(*SERVER, "--threads", "16", "s1_sse_overview.web:app", environment=said) as program:
        yield Site(int(program.until_says(LISTENING)[1]), program)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    yield from serving({})


@pytest.fixture(scope="module")
def slow_site() -> Iterator[Site]:
    """Whose answers take a second, so that they can be seen to grow."""
    yield from serving({"PACE": "0.1"})


@pytest.fixture(scope="module")
def client_site(site: Site) -> Iterator[Site]:
    """The same application with a key: OpenAI's client asks, and the other one answers."""
    yield from serving({"OPENAI_API_KEY": TOKEN, "OPENAI_BASE_URL": f"{site.url}/v1"})


@pytest.fixture(scope="module")
def full_site() -> Iterator[Site]:
    """Where one answer at a time is written, and none is ever complete."""
    yield from serving({"PACE": "600", "RUNS": "1"})


@pytest.fixture
def question() -> str:
    """One that nobody else asks."""
    return f"Why {next(_questions)}?"


def said(question: str) -> str:
    return f"You asked: {question} — 34°C, 日本語, 😀. A script says this; with a key a model would."


def listen(site: Site, question: str, headers: dict[str, str] = BEARER) -> Reply:
    return fetch(site.port, "GET", f"/events?message={quote(question)}", headers)


def ask(site: Site, question: str, **options: object) -> Reply:
    body = {"messages": [{"role": "user", "content": question}], "stream": True, **options}
    return post_json(site.port, "/v1/chat/completions", body, BEARER)


def data_of(events: list[ServerSentEvent], name: str) -> list[Any]:
    """What a listener gets that parses JSON, such as `onmessage`."""
    return [json.loads(event.data) for event in events if event.event == name]


def text_of(reply: Reply) -> str:
    """What a page shows that appends the data of each message."""
    return "".join(item["data"] for item in data_of(events_of(reply.body), "message"))


def deltas(reply: Reply) -> str:
    chunks = [json.loads(event.data) for event in events_of(reply.body) if event.data != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))


# The contract, and what the original did wrong --------------------------------------------------------------------


def test_every_message_is_a_framed_event_of_json_and_the_server_ends_the_stream(site: Site, question: str) -> None:
    reply = listen(site, question)

    events = events_of(reply.body)
    assert reply.head["content-type"] == "text/event-stream"
    assert text_of(reply) == said(question)
    assert data_of(events, "message")[0] == {"event": "token", "data": "You"}
    assert data_of(events, "new-message") == [{"event": "new-message", "data": said(question)}]
    assert data_of(events, "run.ended") == [{"status": "completed"}]
    assert reply.whole


def test_chunks_without_text_are_nothing(site: Site, question: str) -> None:
    texts = [item["data"] for item in data_of(events_of(listen(site, question).body), "message")]

    assert len(texts) == len(said(question).split(" "))
    assert all(isinstance(text, str) and text for text in texts)


@pytest.mark.parametrize("how", ["at once", "half-way"])
def test_a_model_that_fails_is_apologised_for(site: Site, how: str, question: str) -> None:
    reply, chat = listen(site, f"{question} fail {how}"), ask(site, f"{question} fail {how}")

    events = events_of(reply.body)
    (ended,) = data_of(events, "run.ended")
    errors = [json.loads(event.data)["error"] for event in events_of(chat.body) if '"error"' in event.data]
    assert reply.status == chat.status == 200
    assert text_of(reply).endswith(APOLOGY)
    assert text_of(reply).startswith("You asked" if how == "half-way" else APOLOGY)
    assert (ended["status"], ended["error"]["message"]) == ("failed", APOLOGY)
    assert [error["message"] for error in errors] == [APOLOGY]
    assert data_of(events, "new-message") == []
    assert b"sk-secret" not in reply.body + chat.body


def test_a_reader_that_is_cut_at_any_byte_has_the_same_text(
    site: Site, question: str, require_program: Callable[..., str]
) -> None:
    body = ask(site, question).body
    command = [require_program("node"), str(READERS / "openai_reader.mjs"), str(EXAMPLE / "page" / "chat.js")]

    done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=50)
    told = json.loads(done.stdout)

    assert "日本語, 😀" in deltas(Reply(ask(site, question).head, body, whole=True))
    assert told["cuts"] > 1_000
    assert told["differing"] == []
    assert told["data"] == [event.data for event in events_of(body)]


def test_nothing_that_is_sent_to_a_browser_holds_a_key() -> None:
    sent = "".join(path.read_text(encoding="utf-8") for path in (EXAMPLE / "page").iterdir())

    assert not re.search(r"Bearer|Authorization|sk-|api[_-]?key", sent, re.IGNORECASE)


def test_whoever_has_neither_token_nor_cookie_is_refused(site: Site, question: str) -> None:
    replies = [
        listen(site, question, headers)
        for headers in ({}, {"authorization": "Bearer guess"}, {"authorization": TOKEN}, {"cookie": "session=forged"})
    ]

    assert [reply.status for reply in replies] == [401] * 4
    assert replies[0].head["www-authenticate"] == "Bearer"


def test_eventsource_is_let_in_by_the_cookie_of_the_page(site: Site, question: str) -> None:
    page = fetch(site.port, "GET", "/")
    cookie = page.head["set-cookie"]

    mine = {"cookie": cookie.partition(";")[0]}
    reply = listen(site, question, mine)
    other = {"cookie": fetch(site.port, "GET", "/").head["set-cookie"].partition(";")[0]}
    run = reply.head["location"]

    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert text_of(reply) == said(question)
    assert [fetch(site.port, "GET", run, who).status for who in (mine, other, {})] == [200, 404, 401]


def test_who_reconnects_goes_on_and_who_has_it_all_gets_nothing(site: Site, question: str) -> None:
    path = f"/events?message={quote(question)}"
    with open_stream(site.port, "GET", path, BEARER) as reader:
        whole = reader.rest()

    middle, last = whole[len(whole) // 2], whole[-1]
    resumed = events_of(fetch(site.port, "GET", path, {**BEARER, "last-event-id": middle.id}).body)
    again = fetch(site.port, "GET", path, {**BEARER, "last-event-id": last.id})

    assert resumed == whole[len(whole) // 2 + 1 :]
    assert (again.status, again.body) == (204, b"")


def test_a_question_that_is_empty_or_too_long_is_refused(site: Site) -> None:
    assert [listen(site, text).status for text in ("", "x" * 2_001)] == [400, 400]


def test_too_many_answers_at_once_are_refused(full_site: Site, question: str) -> None:
    path = f"/events?message={quote(question)}"
    with open_stream(full_site.port, "GET", path, BEARER) as reader:
        while not full_site.program.output.count("the model is asked"):
            reader.read_more()

        refused = [listen(full_site, question), ask(full_site, question)]

    assert [(reply.status, reply.head["retry-after"]) for reply in refused] == [(429, "5")] * 2


def test_options_are_brought_within_their_bounds(site: Site, question: str) -> None:
    few, bounded = ask(site, question, max_tokens=3), ask(site, question, max_tokens=-5, temperature=99, top_p="x")

    assert deltas(few) == "You asked: Why"
    assert deltas(bounded) == "You"


# With others' clients -----------------------------------------------------------------------------------------------


def test_curl_sees_it(site: Site, question: str, require_program: Callable[..., str]) -> None:
    command = [require_program("curl"), "-sN", "-G", f"{site.url}/events", "--data-urlencode", f"message={question}"]

    done = subprocess.run([*command, "-H", f"Authorization: Bearer {TOKEN}"], capture_output=True, check=True)

    assert "".join(item["data"] for item in data_of(events_of(done.stdout), "message")) == said(question)


def test_openais_client_reads_the_endpoint(site: Site, question: str) -> None:
    with openai.OpenAI(api_key=TOKEN, base_url=f"{site.url}/v1", max_retries=0) as client:
        asked: Any = {"messages": [{"role": "user", "content": question}], "model": client.models.list().data[0].id}
        create: Any = client.chat.completions.create
        whole = create(**asked)
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in create(**asked, stream=True, temperature=0.5, max_tokens=100)
            if chunk.choices
        ]

    assert whole.choices[0].message.content == said(question)
    assert "".join(pieces) == said(question)


def test_with_a_key_openais_client_asks_the_model(client_site: Site, question: str) -> None:
    well, failed = listen(client_site, question), listen(client_site, f"{question} fail half-way")

    assert text_of(well) == said(question)
    assert re.fullmatch(f"You asked.*\n\n{re.escape(APOLOGY)}", text_of(failed))


def react(url: str, require_program: Callable[..., str]) -> dict[str, Any]:
    """What the component shows in the end."""
    node = require_program("node")
    if not NODE_MODULES.is_dir():
        missing("React is not installed: make install")
    script, component = READERS / "react_answer.mjs", EXAMPLE / "react" / "Answer.js"
    command = [node, str(script), str(NODE_MODULES), str(component), url, TOKEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_react_component_grows_with_the_answer_and_strict_mode_asks_the_model_once(
    slow_site: Site, question: str, require_program: Callable[..., str]
) -> None:
    asked_before = slow_site.program.output.count("the model is asked")

    told = react(f"{slow_site.url}/events?message={quote(question)}&key={'k' * 20}", require_program)

    assert (told["text"], told["alert"]) == (said(question), None)
    assert told["grew"] > 3
    assert (told["opened"], told["left_open"]) == (2, 0)
    assert slow_site.program.output.count("the model is asked") == asked_before + 1


def test_a_react_component_shows_the_apology(site: Site, question: str, require_program: Callable[..., str]) -> None:
    told = react(f"{site.url}/events?message={quote(question + ' fail at once')}&key={'f' * 20}", require_program)

    assert told["alert"] == APOLOGY


# The page ------------------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("way", ["EventSource", "fetch"])
async def test_the_page_shows_an_answer_as_it_grows(slow_site: Site, page: Page, question: str, way: str) -> None:
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108  its signature is asked for
    await page.goto(slow_site.url)

    await page.get_by_label("Message").fill(question)
    await page.get_by_role("button", name=way).click()
    await expect(page.locator("#answer")).to_contain_text("You asked", timeout=PATIENCE_MS)
    begun = await page.locator("#answer").text_content()
    await expect(page.locator("#status")).to_have_text("done", timeout=PATIENCE_MS)

    assert begun != said(question)
    assert await page.locator("#answer").text_content() == said(question)
    assert await page.locator("#message").text_content() == (said(question) if way == "EventSource" else "")
    assert all(request.url.startswith(slow_site.url) for request in requests)
    assert not [request for request in requests if "authorization" in await request.all_headers()]


@pytest.mark.browser
@pytest.mark.parametrize("way", ["EventSource", "fetch"])
async def test_the_page_shows_the_apology(site: Site, page: Page, question: str, way: str) -> None:
    await page.goto(site.url)

    await page.get_by_label("Message").fill(f"{question} fail half-way")
    await page.get_by_role("button", name=way).click()

    await expect(page.locator("#status")).to_have_text(f"failed: {APOLOGY}", timeout=PATIENCE_MS)
    assert (await page.locator("#answer").text_content() or "").startswith("You asked")


def test_one_command_starts_it_and_ctrl_c_stops_it() -> None:
    with Program(str(EXAMPLE / "run.py"), "--bind", "127.0.0.1:0", environment={"PACE": "0"}) as program:
        command = program.until_says(r"Authorization: (Bearer [\w-]+)'")
        listening = program.until_says(LISTENING)

        reply = fetch(int(listening[1]), "GET", "/events?message=Hello", {"authorization": command[1]})
        exit_code = program.interrupt()

    assert text_of(reply) == said("Hello")
    assert exit_code == 0
