"""What reading a stream is, whether a thread or a task does it: all that is between the machine and an HTTP client."""

from collections.abc import Awaitable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, TypeAlias

from tailrace.client.commands import Fail, Read, Send
from tailrace.client.http_clients import Answer, AsyncHttpClient, HttpClient, Timeouts, dropped_by, is_hopeless
from tailrace.client.machine import Machine
from tailrace.client.template import RequestTemplate

__all__ = ["Given", "Reading", "unix_seconds"]

Given: TypeAlias = Mapping[str, str] | Awaitable[Mapping[str, str]] | None

#: A server that cannot be reached for so long is tried again.
_CONNECT_SECONDS = 10.0

#: What another origin may be told of all that an HTTP client adds by itself.
_HARMLESS = frozenset({b"accept-encoding", b"connection", b"user-agent"})


def unix_seconds() -> float:
    """The time, as machines are told it."""
    return datetime.now(UTC).timestamp()


class Reading:
    """One stream on its way; subclasses do what takes time.

    Attributes:
        machine: What is to be done.
        is_closed: Somebody has closed it: nothing more is read.
    """

    # Until it is made, there is nothing to close.
    is_closed = True

    def __init__(self, machine: Machine, template: RequestTemplate) -> None:
        """Take the parts; nothing is requested yet."""
        self.machine = machine
        self.is_closed = False
        self._template = template

    @property
    def _is_over(self) -> bool:
        return self.is_closed or self.machine.is_over

    @property
    def _is_connecting(self) -> bool:
        return not (self._is_over or isinstance(self.machine.command, Read))

    def _raise_failure(self) -> None:
        command = self.machine.command
        if isinstance(command, Fail) and not self.is_closed:
            raise command.error

    def _request(
        self,
        client: HttpClient | AsyncHttpClient,
        package: ModuleType,
        send: Send,
        given: Mapping[str, str] | None,
        timeouts: Timeouts,
        **extensions: object,
    ) -> tuple[Any, dict[str, Any]]:
        """A request of the client's, and how it is to be sent: without what is the client's own, if it leaves home."""
        arguments = self._template.request(send, given)
        self.machine.repeatable = self._template.is_repeatable
        request = client.build_request(**arguments, timeout=timeouts, extensions=extensions)
        options: dict[str, Any] = {"stream": True, "follow_redirects": False}
        if send.with_credentials:
            return request, options
        names = _HARMLESS | {name for name, _ in arguments["headers"]}
        headers = [(name, value) for name, value in request.headers.raw if name.lower() in names]
        foreign = package.Request(**{**arguments, "headers": headers}, extensions=request.extensions)
        return foreign, {**options, "auth": None}

    def _connect_seconds(self) -> float:
        idle = self.machine.patience(unix_seconds())
        return _CONNECT_SECONDS if idle is None else min(_CONNECT_SECONDS, idle)

    @contextmanager
    def _noting_losses(self, package: ModuleType) -> Generator[None]:
        """Tell the machine of a connection that is lost in here, or was never made."""
        try:
            yield
        except dropped_by(package) as error:
            if is_hopeless(error, package):
                raise
            if not self.is_closed:
                self.machine.broke(str(error) or type(error).__name__, unix_seconds())

    def _answered(self, answer: Answer, url: str) -> None:
        self.machine.answered(answer.status_code, answer.headers, url, unix_seconds())
