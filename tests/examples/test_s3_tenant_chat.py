"""The tenant chat: its routes over a real socket, readers that know no better, and its page in a real browser."""

import base64
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
import yaml
from playwright.async_api import Page, Request, Route, expect

from tests.examples.program import EXAMPLES, Program
from tests.examples.serving import PATIENCE_MS, Site, post_json, serving, until_data
from tests.integration.support.client import EventReader, fetch, open_stream
from tests.tcp_proxy import TcpProxy

SECRET = "a secret of at least 32 bytes, for tests"
FOLDER = EXAMPLES / "s3_tenant_chat"
READERS = Path(__file__).parent / "readers"
CASES = yaml.safe_load((Path(__file__).parents[2] / "spec" / "conformance" / "sse.yaml").read_text())["cases"]
#: Time for a machine that has other things to do as well.
SLACK_SECONDS = 2.0
SUGGESTION_SECONDS = 1.5
#: The run will end because of this; it would be 200 if it had ended before.
ACCEPTED = 202


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving("s3_tenant_chat.web:app", {"JWT_SECRET": SECRET, "PACE": "0.3"}) as site:
        yield site


@pytest.fixture(scope="module")
def slow_site() -> Iterator[Site]:
    """Where whatever takes time takes so much that something else has to happen before."""
    with serving("s3_tenant_chat.web:app", {"JWT_SECRET": SECRET, "PACE": "200"}) as site:
        yield site


def token(tenant: str = "acme", user: str = "ann", *, seconds: int = 600, secret: str = SECRET) -> str:
    claims = {"tenant": tenant, "sub": user, "exp": datetime.now(UTC) + timedelta(seconds=seconds)}
    return jwt.encode(claims, secret, "HS256")


def headers(tenant: str = "acme", user: str = "ann", **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {
        "authorization": f"Bearer {token(tenant, user)}",
        "content-type": "application/json",
        "accept": "text/event-stream",
        **named,
    }


def question(message: str, **more: str) -> bytes:
    return msgspec.json.encode({"message": message, **more})


def ask(site: Site, message: str, sent: dict[str, str] | None = None, **more: str) -> list[Any]:
    """The data of each event of an answer, decoded; the last is `[DONE]`."""
    with open_stream(site.port, "POST", "/chat", sent or headers(), body=question(message, **more)) as reader:
        return told(reader)


def told(reader: EventReader) -> list[Any]:
    data = [event.data for event in reader.rest()]
    return [item if item == "[DONE]" else msgspec.json.decode(item) for item in data]


def text_of(data: list[Any]) -> str:
    return "".join(item["token"] for item in data if "token" in item)


def whole(site: Site, message: str, sent: dict[str, str] | None = None, **more: str) -> dict[str, Any]:
    """The answer as one document."""
    return post_json(site.port, "/chat", {"message": message, **more}, {**(sent or headers()), "accept": "*/*"}).json()


def run_url(reader: EventReader) -> str:
    return reader.head["location"].partition("/events")[0]


def status_of(site: Site, url: str) -> object:
    return fetch(site.port, "GET", url, headers()).json()["status"]


# The contract --------------------------------------------------------------------------------------------------------


def test_an_answer_comes_in_the_order_that_its_pages_expect(site: Site) -> None:
    data = ask(site, "How are sales? And make it dark", branch_id="north")

    keys = ["[DONE]" if item == "[DONE]" else next(iter(item)) for item in data]
    order = [key for index, key in enumerate(keys) if keys[index - 1 : index] != [key]]
    assert order == ["conversation_id", "tools_used", "action", "token", "suggested_questions", "[DONE]"]
    assert [item["tools_used"] for item in data if "tools_used" in item] == [["branch_sales"], ["change_theme"]]
    assert {"action": {"type": "change_theme", "value": "dark"}} in data
    assert len(data[-2]["suggested_questions"]) == 3
    assert text_of(data).startswith("Branch **north** of acme sold")


def test_a_reader_as_pages_have_it_reads_all_of_it(site: Site, require_program: Callable[..., str]) -> None:
    command = [require_program("node"), str(READERS / "tenant_chat.mjs"), f"{site.url}/chat", token(), "long"]
    output = subprocess.run(command, check=True, capture_output=True, timeout=50).stdout

    heard = msgspec.json.decode(output, type=list[list[Any]])
    text = "".join(item[1] for item in heard if item[0] == "token")
    assert heard[0][0] == "conversation_id"
    assert [kind for kind, *_ in heard[-2:]] == ["suggested_questions", "done"]
    assert text == whole(site, "long")["response"]
    assert text.count("déjà vu — 日本") == 25


def test_curl_n_shows_the_words_one_by_one(site: Site, require_program: Callable[..., str]) -> None:
    sent = [item for name, value in headers().items() for item in ("-H", f"{name}: {value}")]
    command = [require_program("curl"), "-sN", "-X", "POST", f"{site.url}/chat", *sent, "-d", '{"message": "hello"}']

    output = subprocess.run(command, check=True, capture_output=True, timeout=50).stdout.decode()

    assert output.count('data: {"token":') > 15
    assert output.endswith("data: [DONE]\n\n: end\n")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"),
        ("TEXT/EVENT-STREAM, */*;q=0.1", "text/event-stream"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/event-stream;q=0, application/json", "application/json"),
    ],
)
def test_whoever_does_not_name_a_stream_gets_one_document(site: Site, accept: str, kind: str) -> None:
    reply = fetch(site.port, "POST", "/chat", headers(accept=accept), question("hello"))

    assert (reply.status, reply.head["content-type"]) == (200, kind)
    if kind == "application/json":
        document = reply.json()
        assert str(document["response"]).startswith("Hello 👋")
        assert isinstance(document["conversation_id"], str)
        assert isinstance(document["suggested_questions"], list)


def test_a_conversation_remembers_what_was_said(site: Site) -> None:
    first = whole(site, "hello")["conversation_id"]

    again = whole(site, "What did I ask before?", conversation_id=first)
    elsewhere = whole(site, "What did I ask before?")

    assert (again["conversation_id"], again["response"]) == (first, "Before this you asked: hello.")
    assert elsewhere["response"] == "Before this you asked: nothing."


# The faults ----------------------------------------------------------------------------------------------------------


def test_a_tool_is_announced_before_it_has_run(slow_site: Site) -> None:
    body = question("sales", branch_id="north")
    with open_stream(slow_site.port, "POST", "/chat", headers(), body=body) as reader:
        until_data(reader, "tools_used")

        run = fetch(slow_site.port, "GET", run_url(reader), headers()).body

        fetch(slow_site.port, "POST", f"{run_url(reader)}/cancel", headers())
        assert reader.rest()[-1].data == "[DONE]"
    assert b"branch_sales" in run
    assert b"total" not in run


def test_leaving_does_not_stop_an_answer_and_cancelling_does(slow_site: Site) -> None:
    with open_stream(slow_site.port, "POST", "/chat", headers(), body=question("sales", branch_id="north")) as reader:
        until_data(reader, "tools_used")
        url = run_url(reader)

    after_leaving = status_of(slow_site, url)
    with open_stream(slow_site.port, "GET", f"{url}/events?dialect=tokens", headers()) as reader:
        cancelled = fetch(slow_site.port, "POST", f"{url}/cancel", headers()).json()
        data = told(reader)

    assert after_leaving == "running"
    assert cancelled["accepted"] is True
    assert data[-1] == "[DONE]"
    assert status_of(slow_site, url) == "cancelled"


def test_the_next_question_takes_the_place_of_one_that_nobody_cancelled(slow_site: Site) -> None:
    with open_stream(slow_site.port, "POST", "/chat", headers(user="sue"), body=question("long")) as reader:
        conversation = msgspec.json.decode(reader.next().data)["conversation_id"]
        again = question("sales", branch_id="north", conversation_id=conversation)
        with open_stream(slow_site.port, "POST", "/chat", headers(user="sue"), body=again) as second:
            until_data(second, "tools_used")
            assert told(reader)[-1] == "[DONE]"
            first = fetch(slow_site.port, "GET", f"{run_url(reader)}/events", headers(user="sue"))
            fetch(slow_site.port, "POST", f"{run_url(second)}/cancel", headers(user="sue"))

    assert b'"reason":"superseded"' in first.body


def test_a_stream_that_was_cut_has_no_done_and_goes_on_where_it_was(site: Site) -> None:
    with open_stream(site.port, "POST", "/chat", headers(), body=question("long")) as reader:
        begun = [reader.next() for _ in range(20)]
        location, last_id = reader.head["location"], reader.last_event_id

    with open_stream(site.port, "GET", location, headers(last_event_id=last_id)) as reader:
        rest = reader.rest()

    data = [msgspec.json.decode(event.data) for event in begun + rest if event.data != "[DONE]"]
    assert "[DONE]" not in [event.data for event in begun]
    assert rest[-1].data == "[DONE]"
    assert text_of(data) == whole(site, "long")["response"]


def test_suggestions_that_take_long_do_not_hold_up_the_end(site: Site) -> None:
    with open_stream(site.port, "POST", "/chat", headers(), body=question("slow suggestions, please")) as reader:
        until_data(reader, "answer.")
        said_at = time.monotonic()
        rest = told(reader)
        seconds = time.monotonic() - said_at

    assert rest == ["[DONE]"]
    assert seconds < SUGGESTION_SECONDS + SLACK_SECONDS


def test_an_agent_that_never_gets_there_says_so(site: Site) -> None:
    data = ask(site, "keep looking", branch_id="north")

    assert [item["tools_used"] for item in data if "tools_used" in item] == [["branch_sales"]] * 5
    assert text_of(data) == "I have looked 5 times and stop here without an answer."


def test_a_failure_is_told_without_its_text(site: Site) -> None:
    data = ask(site, "fail half-way")

    (failure,) = (item["error"] for item in data if "error" in item)
    assert failure["code"] == "error"
    assert data[-1] == "[DONE]"
    assert "hunter2" not in str(data)
    site.program.until_says("hunter2")


def test_a_tool_that_has_no_result_does_not_end_the_answer(site: Site) -> None:
    data = ask(site, "sales")

    assert text_of(data) == "I could not look: no branch is chosen."


# Whose it is ---------------------------------------------------------------------------------------------------------


def unsigned() -> str:
    part = [base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode() for part in FORGED]
    return f"{part[0]}.{part[1]}."


FORGED: list[dict[str, object]] = [{"alg": "none"}, {"tenant": "acme", "sub": "ann", "exp": 9_999_999_999}]
WITHOUT_TENANT: dict[str, object] = {"sub": "ann", "exp": 9_999_999_999}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer ",
        "Bearer nonsense",
        f"Basic {token()}",
        token(),
        f"Bearer {token(seconds=-60)}",
        f"Bearer {token(secret='another secret that has 32 bytes as well')}",
        f"Bearer {unsigned()}",
        f"Bearer {jwt.encode(WITHOUT_TENANT, SECRET, 'HS256')}",
    ],
    ids=["none", "empty", "no-token", "basic", "no-scheme", "expired", "other-secret", "unsigned", "no-tenant"],
)
def test_only_a_valid_token_is_let_in(site: Site, authorization: str) -> None:
    reply = fetch(site.port, "POST", "/chat", {**headers(), "authorization": authorization}, question("hello"))

    assert (reply.status, reply.head["www-authenticate"]) == (401, "Bearer")


def test_no_other_tenant_or_user_reads_or_stops_an_answer_or_goes_on_with_it(site: Site) -> None:
    with open_stream(site.port, "POST", "/chat", headers(), body=question("long")) as reader:
        conversation = msgspec.json.decode(reader.next().data)["conversation_id"]
        url = run_url(reader)
        statuses: list[int] = []
        for stranger in (headers("other", "ann"), headers("acme", "bob")):
            body = question("What did I ask before?", conversation_id=conversation)
            statuses += [
                fetch(site.port, "GET", f"{url}/events", stranger).status,
                fetch(site.port, "GET", url, stranger).status,
                fetch(site.port, "POST", f"{url}/cancel", stranger).status,
                fetch(site.port, "POST", "/chat", stranger, body).status,
            ]
        fetch(site.port, "POST", f"{url}/cancel", headers())

    assert statuses == [404] * 8


def test_tools_act_for_the_caller_and_the_token_is_kept_nowhere(site: Site) -> None:
    mine, theirs = headers("acme", "ann"), headers("other", "bob")
    with open_stream(site.port, "POST", "/chat", mine, body=question("sales", branch_id="north")) as reader:
        shown = text_of(told(reader))
        log = fetch(site.port, "GET", f"{run_url(reader)}/events?merge=0", mine).body + reader.raw

    others = str(whole(site, "sales", theirs, branch_id="north")["response"])

    secret = mine["authorization"].removeprefix("Bearer ")
    assert shown.startswith("Branch **north** of acme sold ")
    assert others.startswith("Branch **north** of other sold ")
    assert secret.encode() not in log
    assert secret not in site.program.output


def test_a_question_that_is_sent_again_is_answered_once(site: Site) -> None:
    sent = headers(idempotency_key="the same question, sent twice")

    first, second = (ask(site, "hello", sent) for _ in range(2))
    conversation = first[0]["conversation_id"]
    after = whole(site, "What did I ask before?", conversation_id=conversation)

    assert first == second
    assert after["response"] == "Before this you asked: hello."


def test_what_is_too_long_or_too_much_is_refused(slow_site: Site) -> None:
    busy = headers(user="busy")
    sizes = [
        post_json(slow_site.port, "/chat", {"message": "x" * 4001}, busy).status,
        post_json(slow_site.port, "/chat", {"message": ""}, busy).status,
        post_json(slow_site.port, "/chat", {"message": "x", "branch_id": "b" * 129}, busy).status,
    ]
    urls: list[str] = []
    for _ in range(4):
        with open_stream(slow_site.port, "POST", "/chat", busy, body=question("long")) as reader:
            reader.next()
            urls.append(run_url(reader))

    refused = fetch(slow_site.port, "POST", "/chat", busy, question("one more"))
    for url in urls:
        fetch(slow_site.port, "POST", f"{url}/cancel", busy)

    assert sizes == [422, 422, 422]
    assert (refused.status, refused.head["retry-after"]) == (429, "5")


def test_a_server_does_not_start_with_a_secret_that_can_be_guessed() -> None:
    command = ("-m", "uvicorn", "s3_tenant_chat.web:app", "--port", "0")

    with Program(*command, environment={"JWT_SECRET": "secret"}) as program:
        program.until_says("JWT_SECRET has to have at least 32 bytes")


def test_only_a_server_without_a_secret_gives_tokens_away(site: Site) -> None:
    with serving("s3_tenant_chat.web:app") as demo:
        given = post_json(demo.port, "/demo-token", {"tenant": "acme", "user": "ann"})
        sent = {**headers(), "authorization": f"Bearer {given.json()['token']}"}
        answered = fetch(demo.port, "POST", "/chat", sent, question("hello")).status

    refused = post_json(site.port, "/demo-token", {"tenant": "acme", "user": "ann"}).status

    assert (given.status, answered) == (200, 200)
    assert refused in {404, 405}


# The page's own reader -----------------------------------------------------------------------------------------------


def test_the_pages_decoder_passes_every_case_cut_at_every_byte(require_program: Callable[..., str]) -> None:
    expected = [{name: case[name] for name in ("events", "comments", "last_event_id", "retry")} for case in CASES]
    inputs = [[chunk.encode("latin-1") for chunk in case["input"]] for case in CASES]

    given = decoded(require_program, inputs)
    bytewise = decoded(require_program, [[bytes([byte]) for chunk in chunks for byte in chunk] for chunks in inputs])

    assert given == expected
    assert bytewise == expected


def test_the_pages_decoder_is_right_wherever_a_stream_is_cut(site: Site, require_program: Callable[..., str]) -> None:
    with open_stream(site.port, "POST", "/chat", headers(), body=question("hello")) as reader:
        events = [[event.event, event.data, event.id] for event in reader.rest()]

    cuts = [[reader.raw[:place], reader.raw[place:]] for place in range(len(reader.raw))]

    assert all(answer["events"] == events for answer in decoded(require_program, cuts))


def decoded(require_program: Callable[..., str], streams: list[list[bytes]]) -> list[dict[str, Any]]:
    command = [require_program("node"), str(READERS / "decode.mjs"), str(FOLDER / "page" / "sse.js")]
    sent = msgspec.json.encode([[list(chunk) for chunk in chunks] for chunks in streams])
    output = subprocess.run(command, check=True, capture_output=True, input=sent, timeout=50).stdout
    answers = msgspec.json.decode(output, type=list[dict[str, Any]])
    assert len(answers) == len(streams)
    return answers


# The page ------------------------------------------------------------------------------------------------------------


async def signed_in(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_label("or a token").fill(token(user="page"))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("body")).to_have_attribute("data-user", "signed in")


async def say(page: Page, message: str) -> None:
    await page.get_by_label("Message").fill(message)
    await page.get_by_role("button", name="Send").click()


async def answered(page: Page, state: str = "complete") -> str:
    """The text of the last answer, once it has ended so."""
    last = page.locator(".assistant").last
    await expect(last).to_have_attribute("data-state", state, timeout=PATIENCE_MS)
    return await last.locator("div").inner_text()


def sent_requests(page: Page, part: str) -> list[Request]:
    """The requests whose URL has this in it, from now on."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if part in request.url else None)
    return sent


@pytest.mark.browser
async def test_the_page_fills_an_empty_message_word_by_word_and_offers_what_to_ask_next(site: Site, page: Page) -> None:
    await signed_in(page, site.url)
    await page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => {
            const last = document.querySelector('.assistant:last-of-type');
            if (last) seen.push([last.querySelectorAll('.dots i').length, last.innerText]);
        }).observe(document.getElementById('messages'), { childList: true, subtree: true, characterData: true });
    }""")

    await say(page, "long")
    text = await answered(page)
    seen: list[tuple[int, str]] = await page.evaluate("seen")
    await page.get_by_role("button", name="What did I ask before?").click()
    await expect(page.locator(".assistant")).to_have_count(2)
    after = await answered(page)

    texts = [text for _, text in seen]
    assert seen[0][0] == 3
    assert len(set(texts)) > 20
    assert all(text.startswith(earlier.strip()) for dots, earlier in seen if not dots)
    assert text.count("déjà vu — 日本.") == 25
    assert after == "Before this you asked: long."


@pytest.mark.browser
async def test_the_page_says_that_it_fetches_and_does_only_what_is_on_its_list(site: Site, page: Page) -> None:
    await signed_in(page, site.url)
    await page.evaluate("""() => {
        window.notes = [];
        new MutationObserver(() => notes.push(document.querySelector('.assistant .note')?.textContent))
            .observe(document.getElementById('messages'), { childList: true, subtree: true });
    }""")

    await say(page, "sales and the dark theme")
    text = await answered(page)

    assert "Fetching…" in await page.evaluate("notes")
    assert text.startswith("Branch north of acme sold")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.browser
async def test_an_action_that_is_on_no_list_is_not_done(site: Site, page: Page) -> None:
    stream = (
        b'data: {"conversation_id":"c"}\n\n'
        b'data: {"action":{"type":"constructor","value":"alert(1)"}}\n\n'
        b'data: {"action":{"type":"open_page","value":"https://example.com"}}\n\n'
        b'data: {"action":{"type":"change_theme","value":"<b>"}}\n\n'
        b'data: {"token":"Done."}\n\ndata: [DONE]\n\n'
    )

    async def answer(route: Route) -> None:
        await route.fulfill(body=stream, content_type="text/event-stream")

    await signed_in(page, site.url)
    await page.route("**/chat", answer)

    await say(page, "do something")

    assert await answered(page) == "Done."
    assert page.url == f"{site.url}/"
    assert await page.locator("html").get_attribute("data-theme") is None


@pytest.mark.browser
@pytest.mark.parametrize("button", ["Stop", "New Chat"])
async def test_stop_and_new_chat_end_the_reading_and_the_run_and_are_no_error(
    site: Site, page: Page, button: str
) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await signed_in(page, site.url)
    await say(page, "long")
    await expect(page.locator(".assistant")).to_contain_text("Sentence 2", timeout=PATIENCE_MS)

    async with page.expect_response("**/cancel") as cancelling:
        await page.get_by_role("button", name=button).click()
    cancelled = await cancelling.value

    assert cancelled.status == ACCEPTED
    assert await page.locator(".failed").count() == 0
    assert await page.locator(".assistant").count() == (1 if button == "Stop" else 0)
    assert errors == []
    await say(page, "hello")
    assert (await answered(page)).startswith("Hello")


@pytest.mark.browser
async def test_stop_before_the_server_answered_cancels_as_soon_as_it_has(site: Site, page: Page) -> None:
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await signed_in(page, site.url)
    await page.route("**/chat", hold)
    async with page.expect_request("**/chat"):
        await say(page, "long")

    await page.get_by_role("button", name="Stop").click()
    async with page.expect_response("**/cancel") as cancelling:
        await held[0].continue_()

    assert (await cancelling.value).status == ACCEPTED


@pytest.mark.browser
async def test_a_page_whose_connection_breaks_goes_on_where_it_was(site: Site, page: Page) -> None:
    async with TcpProxy(site.port) as proxy:
        await signed_in(page, f"http://127.0.0.1:{proxy.port}")
        asked = sent_requests(page, "/chat")
        again = sent_requests(page, "/events")
        await say(page, "long")
        for sentence in ("Sentence 3 ", "Sentence 9 "):
            await expect(page.locator(".assistant")).to_contain_text(sentence, timeout=PATIENCE_MS)
            proxy.redirect(site.port)
        text = await answered(page)

    expected = whole(site, "long")["response"]
    assert text == expected
    assert len([request for request in asked if request.method == "POST"]) == 1
    assert len(again) >= 2


@pytest.mark.browser
async def test_a_cut_that_cannot_be_mended_is_not_taken_for_an_answer(site: Site, page: Page) -> None:
    async def answer(route: Route) -> None:
        await route.fulfill(body=b'id: 2\ndata: {"token":"Half"}\n\n', content_type="text/event-stream")

    await signed_in(page, site.url)
    await page.route("**/chat", answer)

    await say(page, "hello")

    assert await answered(page, "failed") == "Half"
    await expect(page.locator(".failed .note")).to_have_text("The connection is lost. What is here is not all.")


@pytest.mark.browser
async def test_an_answer_that_is_not_streamed_is_shown_as_one_piece(site: Site, page: Page) -> None:
    async def without_stream(route: Route) -> None:
        await route.continue_(headers={**route.request.headers, "accept": "application/json"})

    await signed_in(page, site.url)
    await page.route("**/chat", without_stream)

    await say(page, "sales and dark")

    assert (await answered(page)).startswith("Branch north of acme sold")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await expect(page.locator("#suggestions button")).to_have_count(3)


@pytest.mark.browser
async def test_a_document_that_takes_too_long_is_read_as_a_stream(site: Site, page: Page) -> None:
    async def postponed(route: Route) -> None:
        await route.continue_(headers={**route.request.headers, "prefer": "respond-async"})

    await signed_in(page, site.url)
    await page.route("**/chat", postponed)

    await say(page, "hello")

    assert (await answered(page)).startswith("Hello 👋")


@pytest.mark.browser
async def test_markup_in_an_answer_is_shown_and_never_obeyed(site: Site, page: Page) -> None:
    await signed_in(page, site.url)

    await say(page, "markup")
    text = await answered(page)

    body = page.locator(".assistant div").first
    assert '<img src=x onerror="window.hacked = true">' in text
    assert "<script>1</script>" in text
    assert await body.locator("strong, em, ul, pre code").count() == 4
    assert await body.locator("img, script").count() == 0
    links = await body.locator("a").evaluate_all("links => links.map(link => [link.href, link.rel])")
    assert links == [["https://example.com/", "noopener noreferrer"]]
    assert await page.evaluate("window.hacked") is None


@pytest.mark.browser
async def test_a_failure_and_a_refusal_are_shown_as_such(site: Site, page: Page) -> None:
    await signed_in(page, site.url)
    await say(page, "fail")
    failed = await answered(page, "failed")

    await page.get_by_label("or a token").fill("nonsense")
    await page.get_by_role("button", name="Sign in").click()
    await say(page, "hello")
    await answered(page, "failed")

    assert failed.startswith("This answer begins well")
    assert "hunter2" not in failed
    await expect(page.locator(".failed .note")).to_have_text("A valid bearer token is needed.")
