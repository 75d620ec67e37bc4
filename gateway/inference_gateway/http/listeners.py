"""The addresses that the REST API listens on, and how its connections are taken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

import uvicorn

from inference_gateway.http.uvicorn_protocol import BoundedProtocol

log = logging.getLogger(__name__)

_BACKLOG = 4096
_ACCEPT_AT_ONCE = 256
"""Some 20 µs each. Others have as much of a turn, and whoever comes last waits for both."""
_PAUSE_SECONDS = 1.0
_BOTH = {
    "localhost": ("127.0.0.1", "::1"),
    "127.0.0.1": ("127.0.0.1", "::1"),
    "0.0.0.0": ("0.0.0.0", "::"),  # noqa: S104 - the caller's choice
}
"""Where the name means this machine or all its addresses: whoever resolves `localhost` may get
either family first."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets of the same port, the first of which is the host as it was written.

    IPv6 beside IPv4 is for where there is IPv6.

    Raises:
        OSError
    """
    first, *others = _BOTH.get(host, (host,))
    listeners = [_listen(first, port)]
    for other in others:
        with contextlib.suppress(OSError):
            listeners.append(_listen(other, listeners[0].getsockname()[1]))
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class Acceptor:
    """Takes the connections of a listener, many in one turn of the event loop.

    libuv would take one: whoever comes behind a thousand others would wait for a thousand turns.
    """

    def __init__(self, listener: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        listener.listen(_BACKLOG)
        self._resume()

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.error("no connection can be accepted for a second: %s", error)
                self.close()
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
                return
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        """What a task would do, but it would begin a turn later: the loop's coroutine awaits once,
        that the protocol is told."""
        steps = self._loop.connect_accepted_socket(self._make, connection)
        try:
            steps.send(None).add_done_callback(lambda _: self._finish(steps))
        except OSError:
            connection.close()

    def _finish(self, steps: Coroutine[Any, Any, object]) -> None:
        with contextlib.suppress(StopIteration, OSError):
            steps.send(None)


class AcceptingServer(uvicorn.Server):
    """uvicorn's, but for who accepts."""

    _acceptors: tuple[Acceptor, ...] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        if self.started:
            first: BoundedProtocol = cast("Any", self.config.http_protocol_class)(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            self._acceptors = tuple(Acceptor(listener, first.another) for listener in sockets or ())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)
