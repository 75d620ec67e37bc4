"""A way to PostgreSQL that loses the answer to a statement which was carried out."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

_SOCKET = ".s.PGSQL.5432"


class LossyPostgres:
    """A Unix socket in `folder` that leads to the server whose socket is in `target`.

    Attributes:
        loses: the answer to the next message that contains this is lost, and its connection too.
        is_away_after: nobody is let in after that.
        is_up: whether new connections are let in.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        self._target = target / _SOCKET
        self.loses: bytes | None = None
        self.is_away_after = False
        self.is_up = True
        self.lost = threading.Event()
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen()
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database_url: str) -> str:
        return database_url.replace(str(self._target.parent), str(self._folder))

    def cut(self) -> None:
        """End every connection."""
        for end in list(self._ends):
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
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._target))
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        pair = {client, server}
        self._ends |= pair
        try:
            with closing(client), closing(server), suppress(OSError):
                while self._pass_some(client, server):
                    pass
        finally:
            self._ends -= pair

    def _pass_some(self, client: socket.socket, server: socket.socket) -> bool:
        for end in select.select([client, server], [], [])[0]:
            if not (content := end.recv(1_000_000)):
                return False
            (server if end is client else client).sendall(content)
            if end is client and self.loses is not None and self.loses in content:
                self.loses, self.is_up = None, not self.is_away_after
                server.recv(1)  # It answers when it has committed.
                self.lost.set()
                return False
        return True


@pytest.fixture
def lossy_postgres(servers, tmp_path_factory) -> Iterator[LossyPostgres]:  # type: ignore[no-untyped-def]
    with closing(LossyPostgres(servers.sockets, tmp_path_factory.mktemp("pg"))) as proxy:
        yield proxy
