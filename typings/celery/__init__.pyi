# What the examples use of Celery, which has no types of its own.

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

class Celery:
    def __init__(self, main: str, *, broker: str) -> None: ...
    def task(self, function: Callable[_P, _R], /) -> Task[_P, _R]: ...

class Task(Generic[_P, _R]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def delay(self, *args: _P.args, **kwargs: _P.kwargs) -> object: ...
