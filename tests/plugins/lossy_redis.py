"""A proxy of Redis that loses the answer to a command after its execution."""

from __future__ import annotations

import socket

from proxy import Pair, Way


class LossyRedis(Way):
    """A Unix socket that leads to Redis.

    Attributes:
        loses: the answer to the next message that contains this is lost, and its connection too.
    """

    def __init__(self, target: str, path: str) -> None:
        self.loses: bytes | None = None
        self.lost = 0
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def connect() -> socket.socket:
            server = socket.socket(socket.AF_UNIX)
            server.connect(target)
            return server

        super().__init__(listener, connect)

    def passes(self, content: bytes, pair: Pair, *, is_from_client: bool) -> bool:
        if not is_from_client or self.loses is None or self.loses not in content:
            return True
        self.loses = None
        pair[1].recv(1)  # The server answers after the execution.
        self.lost += 1
        return False
