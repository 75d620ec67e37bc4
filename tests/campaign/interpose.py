"""A man in the middle of a Unix socket: cuts, refuses, stalls, and loses acknowledgements.

It takes the place of the server's socket in the file system, again whenever the server is started
anew; the server's own is at the same path with `.server` behind it. It has a process of its own, so
that all goes on as ever while the campaign's own threads compute.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

_LOOK_EVERY = 0.02
_PIECE = 65_536


class Interposer:
    """
    Args:
        path: of the server's socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = _server(path)
        self._process = _Process(ctx=multiprocessing.get_context("spawn"))
        self._process.start()
        self._between: Any = self._process.Between(path)

    @property
    def lost(self) -> int:
        """How many answers were not passed on."""
        return int(self._between.count_lost())

    def lose_answer_to(self, request: bytes | None) -> None:
        """The next request that contains this is forwarded, and its answer dropped."""
        self._between.lose_answer_to(request)

    def refuse(self, refuses: bool) -> None:
        self._between.refuse(refuses)

    def cut(self) -> None:
        """End every connection."""
        self._between.cut()

    def stall(self) -> None:
        """Forward nothing in either direction until `flow`."""
        self._between.stall()

    def flow(self) -> None:
        self._between.flow()

    def stop(self) -> None:
        self._process.shutdown()


class Between:
    """What runs in that process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = _server(path)
        self._inode: int | None = None
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self._loses_answer_to: bytes | None = None
        self._lost = 0
        self._watch()
        threading.Thread(target=self._watch_forever, daemon=True).start()

    def count_lost(self) -> int:
        return self._lost

    def lose_answer_to(self, request: bytes | None) -> None:
        self._loses_answer_to = request

    def refuse(self, refuses: bool) -> None:
        self._refuses = refuses

    def cut(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def stall(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def _watch_forever(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            self._watch()

    def _watch(self) -> None:
        """Take the server's place, if it is there."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            return
        if inode == self._inode:
            return
        ours = self.path.with_name(self.path.name + ".ours")
        ours.unlink(missing_ok=True)
        self.server.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(ours))
        listener.listen(256)
        try:
            os.link(self.path, self.server)
        except FileNotFoundError:  # It went away this moment.
            listener.close()
            return
        self._inode = ours.stat().st_ino
        ours.rename(self.path)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                if self._refuses:
                    raise ConnectionRefusedError
                server.connect(str(self.server))
            except OSError:
                client.close()
                server.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._pass_on, args=(pair,), daemon=True).start()

    def _pass_on(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        silent = False
        poll = select.poll()
        for end in pair:
            poll.register(end, select.POLLIN)
        by_fileno = {end.fileno(): end for end in pair}
        with suppress(OSError):
            while True:
                for fileno, _ in poll.poll():
                    self._flows.wait()
                    end = by_fileno[fileno]
                    content = end.recv(_PIECE)
                    if not content:
                        raise ConnectionResetError
                    if end is client:
                        silent = silent or self._loses(content)
                        server.sendall(content)
                    elif silent:
                        # The server has executed it; its answer is dropped.
                        raise ConnectionResetError
                    else:
                        client.sendall(content)
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            end.close()

    def _loses(self, content: bytes) -> bool:
        wanted = self._loses_answer_to
        if wanted is None or wanted not in content:
            return False
        self._loses_answer_to = None
        self._lost += 1
        return True

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _server(path: Path) -> Path:
    return path.with_name(path.name + ".server")


class _Process(BaseManager):
    """Where the interposer runs."""

    Between: Callable[[Path], Any]
    """Registered below: makes one there, and gives a proxy of it."""


_Process.register("Between", Between)
