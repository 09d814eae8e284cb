"""`tailrace serve`: the chat server, or an application of one's own, on a server that drains and exits with 0."""

import asyncio
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from tailrace.cli.options import OPTIONS
from tailrace.cli.target import TargetError, is_asgi, load_target

if TYPE_CHECKING:
    from tailrace.chat.settings import Settings

__all__ = ["serve"]

#: The server's own patience begins when the drain has ended, so it gets a rest that is small but enough.
_REST_SECONDS = 1.0
#: The server's settings, which are all that an application of one's own has.
_OWN: Mapping[str, Any] = {"host": "127.0.0.1", "port": 8000, "workers": 1, "grace_seconds": 10.0}
_NOT_SHARED = "memory:// cannot be shared: more than one worker needs a store that is"

_Asgi: TypeAlias = Callable[..., Any]


class _RefusalError(Exception):
    """It cannot be served; the text is one line."""


def serve(target: str | None, config: Path | None, *, print_config: bool, **flags: Any) -> None:  # noqa: ANN401  OPTIONS
    """Serve the chat: POST /chat, the runs under /runs, a page at http://HOST:PORT.

    Each option is a setting, and may as well stand in the environment, as TAILRACE_ and its name, or in a TOML file.
    """  # noqa: DOC501  this is the help
    console = Console(stderr=True)
    try:
        given = {name: value for name, value in flags.items() if value is not None}
        agent: Any = None if target is None else load_target(target)
        if target is not None and is_asgi(agent):
            _serve_application(target, agent, given if config is None else {**given, "config": config}, console)
        else:
            _serve_chat(target, config, given, None if print_config else console)
    except (TargetError, _RefusalError) as error:
        # On one line, however long, and as it is: a URL's form has brackets in it.
        console.print(Text.assemble(("tailrace:", "red"), f" {error}"), soft_wrap=True)
        raise typer.Exit(2) from error


def _signature() -> Signature:
    target = typer.Argument(metavar="[MODULE:ATTR]", help="An agent or an ASGI application; default: the assistant.")
    config = typer.Option("--config", metavar="FILE", help="A TOML file of settings.", envvar="TAILRACE_CONFIG")
    shown = typer.Option("--print-config", help="Tell the settings, but no secrets, and stop.")
    parameters = [
        Parameter("target", Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, target]),
        Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, config]),
        Parameter("print_config", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, shown]),
    ]
    return Signature([*parameters, *(option.parameter for option in OPTIONS)])


# This is what typer reads.
serve.__dict__["__signature__"] = _signature()


# An application of one's own -----------------------------------------------------------------------------------------


def _serve_application(target: str, app: _Asgi, given: Mapping[str, Any], console: Console) -> None:
    for name in given.keys() - _OWN.keys():
        flag = f"--{name.replace('_', '-')}"
        raise _RefusalError(f"an application brings its own {name.partition('_')[0]}: {flag} is for agents")
    settings = {**_OWN, **given}
    if settings["workers"] < 1 or settings["grace_seconds"] < 0:
        raise _RefusalError("there is one worker at least, and no time below 0")
    installed = _installed(app)
    if settings["workers"] > 1 and installed is not None and not installed.store.shared:
        # Each process would have logs of its own, and a reload would find its run in one of them only.
        raise _RefusalError(_NOT_SHARED)
    console.print(f"tailrace serves [bold]{target}[/bold]")
    _run(partial(_application, target, settings["grace_seconds"]), settings)


def _application(target: str, grace_seconds: float) -> _Asgi:
    app: _Asgi = load_target(target)
    installed = _installed(app)
    if installed is not None:
        installed.drain_seconds = grace_seconds
    return app


def _installed(app: _Asgi) -> Any:  # noqa: ANN401  a Tailrace, or nothing
    from tailrace import Tailrace

    found = getattr(getattr(app, "state", None), "tailrace", None)
    return found if isinstance(found, Tailrace) else None


# The chat ------------------------------------------------------------------------------------------------------------


def _serve_chat(target: str | None, config: Path | None, given: Mapping[str, Any], console: Console | None) -> None:
    if importlib.util.find_spec("pydantic_settings") is None:
        raise _RefusalError("the chat server needs its extra: pip install 'tailrace[chat]'")
    from tailrace.chat.settings import SettingsError, load_settings, with_database
    from tailrace.cli.account import account, listing
    from tailrace.errors import TailraceError

    try:
        settings = load_settings(config, **given)
        if console is None:
            print(*listing(settings), sep="\n")
            return
        with with_database(settings) as housed:
            _try(target, housed)
            console.print(f"tailrace serves [bold]{target or 'the assistant'}[/bold]")
            for name, fact in account(settings, target=target):
                console.print(Text(f"  {name:15}{fact}"), soft_wrap=True)
            _run(partial(_chat, target, housed), {name: getattr(housed, name) for name in _OWN})
    except (SettingsError, TailraceError) as error:
        raise _RefusalError(str(error)) from error


def _chat(target: str | None, settings: "Settings") -> _Asgi:
    from tailrace.chat.build import build_app

    return build_app(settings, None if target is None else load_target(target))


def _try(target: str | None, settings: "Settings") -> None:
    """Let it start and stop, so that the model, the store and the database are seen to be there.

    What is wrong is told here, once and plainly; known by each worker, it would be a traceback of each.

    Raises:
        _RefusalError: There is no such model.
    """
    from tailrace.chat.agent.models import ModelSetupError

    async def start_and_stop(app: Any) -> None:  # noqa: ANN401  an application of Starlette
        async with app.router.lifespan_context(app):
            pass

    try:
        asyncio.run(start_and_stop(_chat(target, settings)))
    except ModelSetupError as error:
        raise _RefusalError(str(error)) from error


def _run(make: Callable[[], _Asgi], settings: Mapping[str, Any]) -> None:
    from tailrace.web.server import serve as serve_app

    workers = settings["workers"]
    serve_app(
        # Workers get what makes it, with the settings in it, through the pipe that starts them: neither the list of
        # processes nor their environment shows it.
        make() if workers == 1 else make,
        host=settings["host"],
        port=settings["port"],
        grace_seconds=_REST_SECONDS,
        workers=workers,
    )
