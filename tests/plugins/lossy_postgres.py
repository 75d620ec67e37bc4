"""A proxy of PostgreSQL that loses the answer to a statement after its execution."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from proxy import Pair, Way

_SOCKET = ".s.PGSQL.5432"


class LossyPostgres(Way):
    """A Unix socket in `folder` that leads to the server whose socket is in `target`.

    Attributes:
        loses: the answer to the next message that contains this is lost, and its connection too.
        loses_commit_of: the same for the COMMIT of the next transaction that contains this.
        is_away_after: new connections are refused after that.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        self._folders = str(target), str(folder)
        self.loses: bytes | None = None
        self.loses_commit_of: bytes | None = None
        self._loser: Pair | None = None
        self.is_away_after = False
        self.lost = threading.Event()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / _SOCKET))
        listener.listen()

        def connect() -> socket.socket:
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(target / _SOCKET))
            return server

        super().__init__(listener, connect)

    def url(self, database_url: str) -> str:
        return database_url.replace(*self._folders)

    def passes(self, content: bytes, pair: Pair, *, is_from_client: bool) -> bool:
        if not is_from_client or not self._is_to_lose(content, pair):
            return True
        self.is_up = not self.is_away_after
        pair[1].recv(1)  # The server answers after the commit.
        self.lost.set()
        return False

    def _is_to_lose(self, content: bytes, pair: Pair) -> bool:
        if self.loses is not None and self.loses in content:
            self.loses = None
            return True
        if self.loses_commit_of is not None and self.loses_commit_of in content:
            self.loses_commit_of, self._loser = None, pair
        return pair is self._loser and content.startswith(b"Q") and b"COMMIT" in content


@pytest.fixture
def lossy_postgres(servers, tmp_path_factory) -> Iterator[LossyPostgres]:  # type: ignore[no-untyped-def]
    with closing(LossyPostgres(servers.sockets, tmp_path_factory.mktemp("pg"))) as proxy:
        yield proxy
