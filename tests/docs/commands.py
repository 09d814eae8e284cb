"""The commands a page shows: `curl` is carried out against an application, the others are checked, not run."""

import argparse
import asyncio
import inspect
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus

from tailrace.cli.serve import serve
from tailrace.cli.target import load_target
from tailrace.testing import AsgiClient
from tests.docs.pages import ROOT

__all__ = ["CHECKS", "commands", "curl", "shows"]

_LOCAL = "http://127.0.0.1:8000"

_curl = argparse.ArgumentParser("curl", exit_on_error=False, allow_abbrev=False)
_curl.add_argument("-i", action="store_true", help="show the head")
_curl.add_argument("-s", action="store_true", help="show no progress")
_curl.add_argument("-N", action="store_true", help="do not wait for more before showing")
_curl.add_argument("-m", type=float, help="leave after so many seconds")
_curl.add_argument("-X", default="GET")
_curl.add_argument("-H", action="append", default=[])
_curl.add_argument("-d", default="")
_curl.add_argument("url")


def commands(script: str) -> Iterator[list[str]]:
    """The words of each command, without comments."""
    for line in script.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


async def curl(client: AsgiClient, words: list[str]) -> str:
    """What `curl` with these arguments shows."""
    asked = _curl.parse_args(words)
    assert asked.url.startswith(_LOCAL), f"{asked.url} is not where this documentation serves"
    headers = dict(header.split(": ", 1) for header in asked.H)
    method = "POST" if asked.d and asked.X == "GET" else asked.X
    request = client.stream(method, asked.url.removeprefix(_LOCAL), content=asked.d.encode(), headers=headers)
    body = b""
    async with request as response:
        head = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        with suppress(TimeoutError):
            async with asyncio.timeout(asked.m):
                async for chunk in response:
                    body += chunk
    return ("\n".join([*head, "", ""]) if asked.i else "") + body.decode()


def shows(output: str, expected: str) -> bool:
    """Whether the output is as expected: `…` stands for anything, and what differs from run to run may differ."""
    pattern = ".*?".join(re.escape(part) for part in _steady(expected.rstrip()).split("…"))
    return re.fullmatch(pattern, _steady(output.rstrip()), re.DOTALL) is not None


_UNSTEADY = [
    (re.compile(r"\b[a-z2-7]{26}\b"), "RUN"),
    (re.compile(r"\b(msg|call|conv)_[0-9a-f]{10,16}"), r"\1"),
    (re.compile(r'("at_ms":)\d+'), r"\1"),
    (re.compile(r'(correlation id |"correlation_id":")[0-9a-f]{12}'), r"\1"),
]


def _steady(text: str) -> str:
    for pattern, replacement in _UNSTEADY:
        text = pattern.sub(replacement, text)
    return text


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, assigned, _ = word.partition("=")
        assert re.search(rf"^{name} \?= |\$\({name}\)" if assigned else rf"^{name}:", makefile, re.MULTILINE), word


def _check_tailrace(words: list[str]) -> None:
    parameters = inspect.signature(serve).parameters
    assert words.pop(0) == "serve"
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            assert word.removeprefix("--").replace("-", "_") in parameters, word
            words.pop(0)
        else:
            load_target(word)


def _check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"tailrace\[(.+?)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), extras


def _check_nothing(_: list[str]) -> None:
    """Commands of the system and of others: that they are on this list is all that is asked."""


#: By the first word of a command, with or without the folder of its environment.
CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": _check_make,
    "tailrace": _check_tailrace,
    "pip": _check_pip,
    "cd": _check_nothing,
    "gunicorn": _check_nothing,
    "mkdir": _check_nothing,
    "pytest": _check_nothing,
    "python3": _check_nothing,
    "uvicorn": _check_nothing,
}
