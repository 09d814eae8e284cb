"""A stream read by a thread."""

import inspect
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

from tailrace.client.commands import Read, ReadBody, Send, Wait
from tailrace.client.http_clients import HttpClient, HttpResponse, package_of, shut, socket_of
from tailrace.client.machine import Machine
from tailrace.client.reading import Given, Reading, unix_seconds
from tailrace.client.template import RequestTemplate
from tailrace.wire.sse import ServerSentEvent

__all__ = ["StreamReader"]

_OPENED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})


class StreamReader(Reading):
    """Reads one stream. One thread reads; `close` and `retry_now` may be called by any."""

    def __init__(
        self, machine: Machine, template: RequestTemplate, client: HttpClient, *, owns_client: bool = False
    ) -> None:
        """Take the parts; nothing is requested yet. A client of its own is closed with it.

        Raises:
            TypeError: The client is neither of httpx2 nor of httpx.
        """
        super().__init__(machine, template)
        self._client = client
        self._owns_client = owns_client
        self._stepping = threading.Lock()
        self._response: HttpResponse | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._network_stream: object = None
        self._network_lock = threading.Lock()
        self._awake = threading.Event()
        self._package = package_of(client)

    def events(self) -> Generator[ServerSentEvent]:
        """The events, to the stream's end. Whatever ends the generator closes the connection.

        Raises:
            TailraceError: The stream cannot be read to its end.
        """
        try:
            while not self._is_over:
                for event in self._next():
                    yield event
                    if self.is_closed:
                        return
            self._raise_failure()
        finally:
            self.is_closed = True
            self._release()

    def connect(self) -> None:
        """Go on until there is something to read.

        Raises:
            TailraceError: There never will be.
        """
        try:
            while self._is_connecting:
                self._next()
            self._raise_failure()
        except BaseException:
            self.is_closed = True
            self._release()
            raise

    def close(self) -> None:
        """Close at once, in any state. Who reads finds that there is nothing more, and lets go of the rest."""
        self.is_closed = True
        self._awake.set()
        with self._network_lock:
            connection = socket_of(self._network_stream)
        if connection is not None:
            shut(connection)
        if self._stepping.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._stepping.release()

    def __del__(self) -> None:
        """A run that was started and never read has a connection."""
        if not self.is_closed:
            self.close()

    def retry_now(self) -> None:
        """Cut a wait short."""
        if isinstance(self.machine.command, Wait):
            self._awake.set()

    def _next(self) -> list[ServerSentEvent]:
        with self._stepping:
            return self._step()

    def _step(self) -> list[ServerSentEvent]:
        match self.machine.command:
            case Send() as send:
                self._send(send)
            case Read():
                return self._read()
            case ReadBody(limit_bytes=limit_bytes):
                self._read_body(limit_bytes)
            case Wait(seconds=seconds):
                self._wait(seconds)
            case _:
                pass
        return []

    def _send(self, send: Send) -> None:
        self._release()
        given = _given_at_once(self._template.asked(send))
        idle = self.machine.patience(unix_seconds())
        timeouts = (self._connect_seconds(), idle, idle, None)
        trace = _tracing(weakref.ref(self))
        request, options = self._request(self._client, self._package, send, given, timeouts, trace=trace)
        with self._noting_losses(self._package):
            response = self._client.send(request, **options)
            self._response, self._chunks = response, response.iter_bytes()
            # Over HTTP/2 others may share the connection.
            is_shared = response.extensions.get("http_version") == b"HTTP/2"
            self.connected(None if is_shared else response.extensions.get("network_stream"))
            self._answered(response, str(request.url))

    def _read(self) -> list[ServerSentEvent]:
        self.machine.patience(unix_seconds())
        with self._noting_losses(self._package):
            chunk = next(self._chunks, None)
            if self.is_closed:
                return []
            if chunk is not None:
                return self.machine.received(chunk, unix_seconds())
            self.machine.finished(unix_seconds())
        return []

    def _read_body(self, limit_bytes: int) -> None:
        body = bytearray()
        begun = unix_seconds()
        patience = self.machine.patience(begun)
        with self._noting_losses(self._package):
            for chunk in self._chunks:
                body += chunk
                if len(body) >= limit_bytes:
                    break
                # A byte now and then is no answer.
                if patience is not None and unix_seconds() - begun > patience:
                    self.machine.broke(f"it was not there after {patience:g} s", unix_seconds())
                    return
            self.machine.read_body(bytes(body[:limit_bytes]))

    def _wait(self, seconds: float) -> None:
        self._release()
        self._awake.wait(seconds)
        if not self.is_closed:
            self._awake.clear()
            self.machine.woke()

    def _release(self) -> None:
        self.connected(None)
        response, self._response = self._response, None
        if response is not None:
            response.close()
        if self.is_closed:
            self.machine.close()
            if self._owns_client:
                self._client.close()

    def connected(self, network_stream: object) -> None:
        """This request has this connection to itself, or none any more."""
        with self._network_lock:
            self._network_stream = network_stream
        if network_stream is not None and self.is_closed:
            self.close()


def _tracing(reader: weakref.ref[StreamReader]) -> Callable[[str, dict[str, Any]], None]:
    """Tells a reader of the connection that is opened for it: a socket, perhaps with TLS on it.

    The request holds this, and the reader its response: held in turn, a reader that nobody wants would stay.
    """

    def trace(name: str, info: dict[str, Any]) -> None:
        if name in _OPENED and (told := reader()) is not None:
            told.connected(info.get("return_value"))

    return trace


def _given_at_once(given: Given) -> Any:  # noqa: ANN401  looked at by the template
    if not inspect.isawaitable(given):
        return given
    if inspect.iscoroutine(given):
        given.close()
    raise TypeError("a stream that is read with `for` cannot await its headers: use `async for`, or a plain function")
