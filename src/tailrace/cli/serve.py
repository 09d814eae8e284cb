"""`tailrace serve`: the chat server, or an application of one's own, on a server that drains and exits with 0."""

import asyncio
import contextlib
import os
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from tailrace import Runs, Tailrace
from tailrace.chat import demo
from tailrace.chat.app import create_app
from tailrace.cli.target import TargetError, is_asgi, load_target
from tailrace.errors import StoreError
from tailrace.web.server import serve as serve_app

__all__ = ["serve", "worker_application"]

_OPTIONS_VARIABLE = "TAILRACE_SERVE"
_REST_SECONDS = 1.0

_MEMORY = "memory://"


def serve(  # noqa: PLR0913  one parameter for each option
    target: Annotated[
        str | None, typer.Argument(metavar="[MODULE:ATTR]", help="An agent or an ASGI application; default: the demo.")
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    store: Annotated[str, typer.Option(metavar="URL", help="Where runs are kept.")] = _MEMORY,
    model: Annotated[str, typer.Option(metavar="NAME", help="The model behind the built-in agent.")] = "demo",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    grace_seconds: Annotated[float, typer.Option(min=0, help="How long a stop may take.")] = 10.0,
) -> None:
    """Serve the chat: POST /chat, the runs under /runs, a page at http://HOST:PORT."""  # noqa: DOC501  this is the help
    console = Console(stderr=True)
    options = _Options(target=target, store=store, model=model, grace_seconds=grace_seconds)
    try:
        app = _application(options)
        _check_workers(workers, app)
        # Known here, it is told once and plainly; known by each worker, it would be a traceback of each.
        asyncio.run(_try_store(store))
    except (TargetError, StoreError, typer.BadParameter) as error:
        # On one line, however long, and as it is: a URL's form has brackets in it.
        console.print(Text.assemble(("tailrace:", "red"), f" {error}"), soft_wrap=True)
        raise typer.Exit(2) from error
    console.print(f"tailrace serves [bold]{target or 'the demo, which is scripted and not an LLM'}[/bold]")
    # The server's own patience begins when the drain has ended, so it gets a rest that is small but enough.
    if workers == 1:
        serve_app(app, host=host, port=port, grace_seconds=_REST_SECONDS)
    else:
        os.environ[_OPTIONS_VARIABLE] = msgspec.json.encode(options).decode()
        serve_app(f"{__name__}:worker_application", host=host, port=port, grace_seconds=_REST_SECONDS, workers=workers)


def _check_workers(workers: int, app: Any) -> None:  # noqa: ANN401  any ASGI application
    installed = _installed(app)
    if workers > 1 and installed is not None and not installed.store.shared:
        # Each process would have logs of its own, and a reload would find its run in one of them only.
        raise typer.BadParameter("memory:// cannot be shared: more than one worker needs a store that is")


def _installed(app: Any) -> Tailrace | None:  # noqa: ANN401  any ASGI application
    found = getattr(getattr(app, "state", None), "tailrace", None)
    return found if isinstance(found, Tailrace) else None


async def _try_store(url: str) -> None:
    """Open the store and close it again.

    Raises:
        StoreError: It cannot be used, or not now.
    """
    async with contextlib.aclosing(Runs(url)) as runs:
        await runs.open()


class _Options(msgspec.Struct, frozen=True):
    """What each worker needs to know; handed to it by the environment, as it is a process of its own."""

    target: str | None
    store: str
    model: str
    grace_seconds: float


def worker_application() -> Any:  # noqa: ANN401  any ASGI application
    """The application of one worker among several."""
    return _application(msgspec.json.decode(os.environ[_OPTIONS_VARIABLE], type=_Options))


def _application(options: _Options) -> Any:  # noqa: ANN401  any ASGI application
    if options.model != "demo":
        raise typer.BadParameter(f"no model named {options.model!r}: this version has 'demo'")
    agent = demo.demo if options.target is None else load_target(options.target)
    if is_asgi(agent):
        installed = _installed(agent)
        if installed is not None:
            installed.drain_seconds = options.grace_seconds
        if options.store != _MEMORY:
            raise typer.BadParameter("an application brings its own store: --store is for agents")
        return agent
    tail = Tailrace(options.store)
    tail.drain_seconds = options.grace_seconds
    return create_app(agent, tail)
