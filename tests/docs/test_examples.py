"""What the pages show is so: their Python runs, and their requests get the answers that are printed under them."""

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import re
import runpy
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any, Self

import pytest
from flask import Flask
from starlette.types import ASGIApp

from tailrace import Tailrace
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.demo_model import DemoModel
from tailrace.chat.app import create_app
from tailrace.testing import AsgiClient
from tests.docs.commands import CHECKS, commands, curl, shows
from tests.docs.pages import PAGES, Block, blocks
from tests.docs.wsgi import as_asgi
from tests.integration.support.server import AppServer

_FRAGMENT = str(Path(__file__).with_name("fragment.py"))
_ADDRESS = "http://127.0.0.1:8000"
_RUN_ID = re.compile(r'(?:/runs/|"run_id":")([a-z2-7]{26})')


class Reader:
    """Somebody who tries what a page shows, from top to bottom."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._application = AsyncExitStack()
        self._client: AsgiClient | None = None
        self._output: str | None = None
        self._run_id = ""
        self._ways = {"python": self._run, "sh": self._command, "console": self._command, "text": self._compare}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._application.aclose()

    async def take(self, block: Block) -> None:
        """Try one block; there is nothing to try in languages that are only shown."""
        kind, _, name = block.mark.partition(": ")
        if kind == "file":
            (self._folder / name).write_text(block.text, encoding="utf-8")
            importlib.invalidate_caches()
        way = self._ways.get(block.language)
        if way is not None:
            await way(block)

    async def _run(self, block: Block) -> None:
        """Run Python: the tests in it too, and the application that it makes or adds to."""
        if block.mark == "run: served":
            self._output = await asyncio.to_thread(_output_beside_a_server, block)
            return
        names: dict[str, Any] = {"__name__": "example"}
        if block.mark == "run: fragment":
            names = runpy.run_path(_FRAGMENT)
        await _finished(FunctionType(_compiled(block, block.text), names)())
        for test in [value for name, value in names.items() if name.startswith("test_")]:
            await _finished(test())
        if "app" in names:
            app = names["app"]
            await self._serve(as_asgi(app) if isinstance(app, Flask) else app)

    async def _command(self, block: Block) -> None:
        """Give each command; the output is that of the last."""
        if block.mark == "run: demo":
            await self._serve(await asyncio.to_thread(_demo))
        for words in commands(block.text):
            first, *others = (word.replace("RUN_ID", self._run_id) for word in words)
            if first == "curl":
                assert self._client is not None, f"{block.place}: nothing is served here"
                self._output = await curl(self._client, others)
                if found := _RUN_ID.search(self._output):
                    self._run_id = found[1]
            else:
                await asyncio.to_thread(CHECKS[Path(first).name], others)

    async def _compare(self, block: Block) -> None:
        assert self._output is not None, f"{block.place}: this is the output of nothing"
        assert shows(self._output, block.text), f"{block.place} shows something else than\n{self._output}"

    async def _serve(self, app: ASGIApp) -> None:
        await self._application.aclose()
        self._client = await self._application.enter_async_context(AsgiClient(app))


def _demo() -> ASGIApp:
    """The chat server of `make run`."""
    return create_app(Assistant(DemoModel()), Tailrace())


def _compiled(block: Block, text: str) -> CodeType:
    # The text keeps its line numbers, so that a traceback leads to the page.
    text = "\n" * block.line + text
    code: CodeType = compile(text, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def _output_beside_a_server(block: Block) -> str:
    """What a program prints that talks to the chat server over a real connection."""
    printed = io.StringIO()
    with AppServer(_demo()) as server, contextlib.redirect_stdout(printed):
        code = _compiled(block, block.text.replace(_ADDRESS, f"http://127.0.0.1:{server.port}"))
        asyncio.run(_finished(FunctionType(code, {"__name__": "example"})()))
    return printed.getvalue()


async def _finished(result: object) -> None:
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("page", PAGES)
async def test_what_a_page_shows_is_so(page: str, folder: Path) -> None:
    async with Reader(folder) as reader:
        before = ""
        for block in blocks(page):
            # What TypeScript prints is compared where it is run, in `test_typescript.py`.
            if before != "run: node":
                await reader.take(block)
            before = block.mark


def test_an_output_that_differs_is_noticed() -> None:
    output = 'id: 1\ndata: {"token":"a"}\n\n: end\n'

    assert shows(output, output)
    assert shows(output, "id: 1\n…\n: end")
    assert not shows(output, 'id: 1\ndata: {"token":"b"}\n\n: end')
    assert not shows(output, "id: 1\n")
    assert not shows(output, "id: 2\n…")
