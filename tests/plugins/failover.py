"""Fixture `failover`: two Valkeys behind one address, which leads to the first until it fails over.

A plugin, like `inference_stack`.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import Way

from inference_contract import functions
from inference_local import valkey


class Failover(Way):
    """The address, a Unix socket.

    Attributes:
        old, new: clients of the servers themselves.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._leads_to = folder, "old"
        self.old, self.new = (redis.Redis.from_url(valkey.url(folder / n)) for n in ("old", "new"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "address"))
        listener.listen(128)
        super().__init__(listener, self._server)

    @property
    def url(self) -> str:
        return f"unix://{self._folder / 'address'}"

    def demote(self) -> None:
        """Make the old primary a replica of an unreachable server: its data stays unchanged. It
        keeps its clients."""
        self.old.replicaof("127.0.0.1", "1")

    def promote(self) -> None:
        """From now on new connections lead to the new primary."""
        self._leads_to = "new"

    def _server(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._folder / self._leads_to / valkey.SOCKET_NAME))
        return server


@pytest.fixture
def failover(wait_until: Callable[..., Any]) -> Iterator[Failover]:
    with tempfile.TemporaryDirectory(prefix="inference-test-") as name:
        folder = Path(name)
        processes = []
        for server in ("old", "new"):
            (folder / server / "data").mkdir(parents=True)
            argv = valkey.command(folder / server / "data", folder / server)
            with (folder / server / "log").open("wb") as log:
                processes.append(subprocess.Popen(argv, stderr=log, stdout=log))
        wait_until(lambda: all(valkey.is_ready(folder / server) for server in ("old", "new")))
        made = Failover(folder)
        for client in (made.old, made.new):
            client.execute_command(*functions.LOAD)
        yield made
        made.close()
        for client in (made.old, made.new):
            client.close()
        for process in processes:
            process.kill()
            process.wait(10)
