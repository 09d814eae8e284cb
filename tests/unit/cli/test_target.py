"""`module:attr` leads to what a developer wrote, or to a sentence that says why not."""

import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from functools import partial, wraps
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware

from tailrace.cli.target import TargetError, is_asgi, load_target

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None: ...


async def app_with_a_default(scope: Scope, receive: Receive, send: Send, prefix: str = "/") -> None: ...


async def app_with_a_prefix(prefix: str, scope: Scope, receive: Receive, send: Send) -> None: ...


@wraps(app)
async def wrapped_app(*arguments: object, **options: object) -> None: ...


class App:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def method(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def agent(message: str) -> list[str]:
    return [message]


def agent_with_options(message: str, *, model: str = "m", depth: int = 1) -> list[str]:
    return [message]


def agent_of_anything(*arguments: object) -> list[str]:
    return [str(arguments)]


class Agent:
    def __call__(self, message: str) -> list[str]:
        return [message]


@pytest.fixture(autouse=True)
def the_search_path_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable module of some developer."""
    module = ModuleType("some_module")
    vars(module).update(agent=agent, app=Starlette(), version=7, nested=SimpleNamespace(agent=agent))
    monkeypatch.setitem(sys.modules, "some_module", module)
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; `module_of_this_test` may be written there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("module_of_this_test", None)


# Loading


@pytest.mark.usefixtures("module")
def test_a_target_is_what_the_module_holds() -> None:
    assert load_target("some_module:agent") is agent
    assert load_target("some_module:nested.agent") is agent
    assert isinstance(load_target("some_module:app"), Starlette)


def test_a_module_in_the_current_folder_is_found(folder: Path) -> None:
    (folder / "module_of_this_test.py").write_text("def agent(message): return [message]\n", encoding="utf-8")

    assert load_target("module_of_this_test:agent")("a") == ["a"]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "not of the form"),
        ("some_module", "not of the form"),
        ("some_module:", "not of the form"),
        (":agent", "not of the form"),
        (".some_module:agent", "some_module"),
        ("no_such_module:agent", "no module named 'no_such_module'"),
        ("some_module.no_such_part:agent", "no module named"),
        ("no_such_package.part:agent", "no module named 'no_such_package.part'"),
        ("some_module:nobody", "has no 'nobody'"),
        ("some_module:nested.nobody", "has no 'nested.nobody'"),
        ("some_module:agent:more", "has no 'agent:more'"),
        ("some_module:version", "int"),
        ("some_module:nested", "neither an application nor an agent"),
    ],
)
def test_a_target_that_leads_nowhere_is_told_as_a_sentence(target: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        load_target(target)


@pytest.mark.parametrize("missing", ["no_such_dependency", "module_of"])
def test_a_module_that_lacks_another_says_which(folder: Path, missing: str) -> None:
    (folder / "module_of_this_test.py").write_text(f"import {missing}\n", encoding="utf-8")

    # The second name is the beginning of the module's own, as `redis` is of `redis_agent`.
    with pytest.raises(ModuleNotFoundError, match=f"'{missing}'"):
        load_target("module_of_this_test:agent")


def test_what_a_module_raises_is_seen(folder: Path) -> None:
    (folder / "module_of_this_test.py").write_text("raise ZeroDivisionError\n", encoding="utf-8")

    with pytest.raises(ZeroDivisionError):
        load_target("module_of_this_test:agent")


# Telling apart


@pytest.mark.parametrize(
    "target",
    [
        app,
        app_with_a_default,
        wrapped_app,
        partial(app_with_a_prefix, "/"),
        App(),
        App().method,
        Starlette(),
        GZipMiddleware(app),
    ],
)
def test_what_takes_scope_receive_and_send_is_an_application(target: object) -> None:
    assert is_asgi(target)


@pytest.mark.parametrize(
    "target",
    [
        agent,
        agent_with_options,
        agent_of_anything,
        Agent(),
        Agent().__call__,
        partial(agent_with_options, model="n"),
        Agent,
        print,
        7,
    ],
)
def test_what_takes_a_message_is_an_agent(target: object) -> None:
    assert not is_asgi(target)
