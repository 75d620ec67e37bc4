"""Proxies of servers: tests can cut their connections, or let them lose an answer."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress

Pair = tuple[socket.socket, socket.socket]
"""A client and its server."""


class Way:
    """Forwards connections of `listener` to a server.

    Attributes:
        is_up: whether new connections are accepted.
        is_silent: whether all data in both directions is dropped: for a client the server does not
            answer.
    """

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self._listener = listener
        self._connect = connect
        self._pairs: set[Pair] = set()
        self.is_up = True
        self.is_silent = False
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection."""
        for pair in list(self._pairs):
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def passes(self, content: bytes, pair: Pair, *, is_from_client: bool) -> bool:
        """Whether the connection continues after this content, which was just forwarded."""
        return True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_up:
                client.close()
                continue
            self.connections += 1
            pair = (client, self._connect())
            self._pairs.add(pair)
            threading.Thread(target=self._pass_on, args=(pair,), daemon=True).start()

    def _pass_on(self, pair: Pair) -> None:
        client, server = pair
        with closing(client), closing(server), suppress(OSError):
            while self._pass_some(pair):
                pass
        self._pairs.discard(pair)

    def _pass_some(self, pair: Pair) -> bool:
        client, server = pair
        for end in select.select(pair, [], [])[0]:
            if not (content := end.recv(1_000_000)):
                return False
            if self.is_silent:
                continue
            (server if end is client else client).sendall(content)
            if not self.passes(content, pair, is_from_client=end is client):
                return False
        return True


class Proxy(Way):
    """A port of this machine that is forwarded to the API server."""

    def __init__(self, host: str, port: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        super().__init__(listener, lambda: socket.create_connection((host, port)))
