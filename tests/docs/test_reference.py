"""The reference says what the code says: every name, field, parameter, default, code, status, option and route."""

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import tailrace
from tailrace import EventStream, Runs, Tailrace, errors, events, testing
from tailrace.chat.conversations import refusals
from tailrace.chat.conversations.routes import ConversationRoutes
from tailrace.chat.identity.tokens import TokenRules
from tailrace.chat.routes import ChatRequest
from tailrace.chat.settings import Settings
from tailrace.cli.options import OPTIONS
from tailrace.errors import TailraceError
from tailrace.runtime.limits import Limits
from tailrace.web.errors import error_response
from tailrace.web.flask import FlaskTailrace
from tailrace.web.routes import RunRoutes
from tailrace.wire.dialects.native import DIALECT
from tailrace.wire.dialects.registry import DIALECTS
from tests.docs.pages import ROOT, blocks, prose, rows, section

API = "docs/reference/api.md"
EVENTS = "docs/reference/events.md"
WIRE = "docs/reference/wire.md"
CLI = "docs/reference/cli.md"
CHAT = "docs/reference/chat-server.md"
CONVERSATIONS = "docs/how-to/conversations.md"
IDENTITIES = "docs/how-to/authenticate.md"
ARCHITECTURE = "ARCHITECTURE.md"
SETTINGS = "docs/how-to/settings.md"
TESTING = "docs/how-to/test-your-stream.md"

VOCABULARY: dict[str, type[msgspec.Struct]] = {
    tag: struct
    for name in events.__all__
    if isinstance(struct := getattr(events, name), type)
    and issubclass(struct, msgspec.Struct)
    and isinstance(tag := struct.__struct_config__.tag, str)
}
ERRORS: dict[str, type[TailraceError]] = {name: getattr(errors, name) for name in errors.__all__}


#: The tables of routes are made without what their endpoints use.
NOTHING: Any = None


def codes(text: str) -> list[str]:
    """Whatever is set as code."""
    return re.findall(r"`([^`]+)`", text)


def table(text: str) -> dict[str, list[str]]:
    """The rows of all tables, by what stands as code in their first column."""
    return {codes(row[0])[0]: row for row in rows(text) if codes(row[0])}


def defaults(function: Callable[..., Any]) -> dict[str, object]:
    """The parameters that have a default."""
    found = inspect.signature(function).parameters.items()
    return {name: parameter.default for name, parameter in found if parameter.default is not parameter.empty}


@pytest.mark.parametrize(
    ("layer", "title"),
    [
        ("wire", "wire: one vocabulary, many dialects"),
        ("adapters", "adapters: a provider's stream as events"),
        ("runtime", "runtime: what outlives a request"),
        ("web", "web: one request, one follower"),
        ("cli", "cli: tailrace serve"),
    ],
)
def test_every_module_of_a_layer_has_its_place_in_the_architecture(layer: str, title: str) -> None:
    folder = ROOT / "src" / "tailrace" / layer
    modules = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if path.name != "__init__.py"}

    told = {name for row in rows(section(ARCHITECTURE, title)) for name in codes(row[0])}

    assert told - modules == set()
    # One dialect is told for all.
    assert {name for name in modules - told if not name.startswith("dialects/")} == set()


def test_every_name_of_the_package_is_in_the_reference() -> None:
    text = prose(API)

    documented = {*codes(text), *re.findall(r"^#+ (\w+)$", text, re.MULTILINE)}

    assert set(tailrace.__all__) - documented == set()


def test_every_tool_for_tests_is_shown() -> None:
    shown = prose(TESTING) + "".join(block.text for block in blocks(TESTING))

    assert [name for name in testing.__all__ if not re.search(rf"\b{name}\b", shown)] == []


def test_the_vocabulary_has_no_other_events() -> None:
    described = {name for name, row in table(prose(EVENTS)).items() if len(row) == 4}

    assert described == VOCABULARY.keys()


@pytest.mark.parametrize("event_type", VOCABULARY)
def test_an_event_is_described_as_it_is(event_type: str) -> None:
    struct = VOCABULARY[event_type]
    fields = [field for field in msgspec.structs.fields(struct) if field.name != "ext"]

    _, name, described, _ = table(prose(EVENTS))[event_type]

    assert codes(name) == [struct.__name__]
    assert set(codes(described)) == {field.name for field in fields}
    assert set(re.findall(r"\*\*`(\w+)`\*\*", described)) == {field.name for field in fields if field.required}


@pytest.mark.parametrize(
    ("title", "function"),
    [
        ("Tailrace", Tailrace),
        ("stream", Tailrace.stream),
        ("start", Runs.start),
        ("EventStream", EventStream),
        ("FlaskTailrace", FlaskTailrace),
        ("Limits", Limits),
    ],
)
def test_parameters_have_the_defaults_that_are_documented(title: str, function: Callable[..., Any]) -> None:
    documented = {name: ast.literal_eval(codes(row[1])[0]) for name, row in table(section(API, title)).items()}

    assert documented == defaults(function)


def test_what_runs_without_http_leave_out_is_documented() -> None:
    left_out = defaults(Tailrace).keys() - defaults(Runs).keys()

    (sentence,) = re.findall(
        r"Its parameters are those of `Tailrace`, without (.+?)\.", section(API, "Runs"), re.DOTALL
    )

    assert set(codes(sentence)) == left_out


def test_every_error_is_in_the_reference() -> None:
    assert table(section(API, "Errors")).keys() == ERRORS.keys()


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_described_as_it_is(name: str) -> None:
    error = ERRORS[name]
    status = error_response(error.__new__(error), DIALECT).status_code

    _, code, documented_status, meaning = table(section(API, "Errors"))[name]

    assert codes(code) == [error.code]
    assert documented_status == ("none" if status == 500 else str(status))
    assert meaning.endswith("; retryable") == error.retryable


def test_every_dialect_is_in_the_reference() -> None:
    assert table(section(WIRE, "Dialects")).keys() == DIALECTS.keys()


def test_every_run_route_is_in_the_reference() -> None:
    documented = {route.partition("?")[0] for route in table(section(WIRE, "Routes"))}

    assert documented == {f"{route.method} {route.path}" for route in RunRoutes(Tailrace()).table()}


def test_the_fields_of_a_chat_request_are_those_that_are_documented() -> None:
    assert tuple(table(section(CHAT, "POST /chat"))) == ChatRequest.__struct_fields__


def test_every_route_of_conversations_is_documented() -> None:
    documented = {route.partition("?")[0] for route in table(section(CONVERSATIONS, "The routes"))}

    assert documented == {
        f"{route.method} /conversations{route.path.rstrip('/').replace('conversation_id', 'id')}"
        for route in ConversationRoutes(NOTHING, NOTHING, NOTHING).table()
    }


def test_every_refusal_of_conversations_is_documented() -> None:
    documented = table(section(CONVERSATIONS, "What goes wrong, and what you see"))

    assert documented.keys() == {getattr(refusals, name).code for name in refusals.__all__}


def test_every_rule_of_tokens_is_documented_with_its_default() -> None:
    text = section(IDENTITIES, "By a JSON Web Token")
    documented = {name: codes(row[1]) for row in rows(text) if len(row) == 3 for name in codes(row[0])}
    given = {field.name: field.default for field in msgspec.structs.fields(TokenRules)}

    fields = {name: default for name, default in documented.items() if name in given}

    assert fields.keys() == given.keys()
    assert {name: ast.literal_eval(default[0]) for name, default in fields.items() if default} == {
        name: default for name, default in given.items() if default not in {None, msgspec.NODEFAULT}
    }


def plain(text: str) -> str:
    """A cell of a table without its code marks."""
    return text.replace("`", "")


def test_the_options_of_serve_that_are_documented_are_as_they_are() -> None:
    known = {option.flag: option.default for option in OPTIONS} | {"--config": "none", "--print-config": "no"}

    documented = {flag: plain(row[1]) for flag, row in table(section(CLI, "tailrace serve")).items()}

    assert {"--host", "--port", "--store", "--model", "--workers", "--grace-seconds"} <= documented.keys()
    assert documented.items() <= known.items()


def test_every_setting_is_on_its_page_with_its_default() -> None:
    # The one that is no option.
    defaults_of = {option.name: option.default for option in OPTIONS} | {"jwt_secret": "none"}
    sections = ("Server", "Storage", "Model", "Identities", "Limits")

    documented = {
        name: plain(row[1])
        for title in sections
        for name, row in table(section(SETTINGS, title)).items()
        if len(row) == 3
    }

    assert documented == defaults_of
    assert documented.keys() == Settings.model_fields.keys()
