"""A way to a server that tests can cut."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import closing, suppress


class Proxy:
    """A port of this machine that leads to the API server, or for a while to nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self.is_up = True
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
            pair = (client, socket.create_connection(self._target))
            self._pairs.add(pair)
            threading.Thread(target=self._pass_on, args=(pair,), daemon=True).start()

    def _pass_on(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        with closing(client), closing(server), suppress(OSError):
            while True:
                for end in select.select(pair, [], [])[0]:
                    if not (content := end.recv(65_536)):
                        self._pairs.discard(pair)
                        return
                    (server if end is client else client).sendall(content)
        self._pairs.discard(pair)
