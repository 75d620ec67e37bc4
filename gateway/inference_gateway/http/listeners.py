"""The listening sockets of the REST API, and how connections are accepted."""

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
"""Some 20 µs each: limits how long accepting blocks the event loop."""
_PAUSE_SECONDS = 1.0
_BOTH = {
    "localhost": ("127.0.0.1", "::1"),
    "127.0.0.1": ("127.0.0.1", "::1"),
    "0.0.0.0": ("0.0.0.0", "::"),  # noqa: S104 - the caller's choice
}
"""Hosts that stand for both address families: a client may resolve `localhost` to either first."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets on the same port; the first one is for the host as given.

    The IPv6 socket is left out on machines without IPv6.

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
    """Accepts many connections of a listener in one iteration of the event loop.

    libuv accepts one per iteration: the thousandth connection would wait for a thousand iterations.
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
        """Runs the loop's coroutine without a task, which would start an iteration later. It awaits
        only once, for the protocol's connection_made."""
        steps = self._loop.connect_accepted_socket(self._make, connection)
        try:
            steps.send(None).add_done_callback(lambda _: self._finish(steps))
        except OSError:
            connection.close()

    def _finish(self, steps: Coroutine[Any, Any, object]) -> None:
        with contextlib.suppress(StopIteration, OSError):
            steps.send(None)


class AcceptingServer(uvicorn.Server):
    """uvicorn's server, with our Acceptor."""

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
