"""What `module:attr` names: an ASGI application to serve as it is, or an agent to put behind the chat server."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

__all__ = ["TargetError", "is_asgi", "load_target"]


class TargetError(Exception):
    """`module:attr` does not lead to something that can be served; the text says why."""


def load_target(target: str) -> Any:  # noqa: ANN401  whatever the module holds
    """Import `module:attr`, looking in the current folder too.

    Raises:
        TargetError: Not in that form, no such module or attribute, or nothing that can be called.
        ModuleNotFoundError: The module itself imports one that is missing.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute) or module_name.startswith("."):
        raise TargetError(f"{target!r} is not of the form module:attr")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"no module named {module_name!r}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise TargetError(f"{module_name!r} has no {attribute!r}")
        found = getattr(found, name)
    if not callable(found):
        raise TargetError(f"{target!r} is a {type(found).__name__}, which is neither an application nor an agent")
    return found


def is_asgi(target: Any) -> bool:  # noqa: ANN401  whatever the module holds
    """Whether it takes `(scope, receive, send)`; an agent takes one message."""
    if isinstance(target, type):
        return False
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    return sum(parameter.kind in positional for parameter in required) == 3
