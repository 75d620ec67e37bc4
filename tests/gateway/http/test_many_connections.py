"""Very many connections under the usual limit of 1,024 open files. The gateway is a process."""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from inference_contract import files, statefile

SECRET = "a-secret-of-the-tests-with-more-than-32-bytes"
IDLE = 5000
STREAMS = 1500


def _usual_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


@contextmanager
def _gateway(env: dict[str, str], state: Path, wait_until: Any) -> Iterator[tuple[int, int]]:
    """Its port and pid."""
    argv = [sys.executable, "-m", "inference_gateway"]
    with subprocess.Popen(argv, env=env, preexec_fn=_usual_limit) as process:
        try:
            wait_until(lambda: statefile.read(state))
            yield (statefile.read(state) or {})["port"], process.pid
        finally:
            process.terminate()


def _wait_for_begin(streams: list[socket.socket]) -> list[bytes]:
    """The first line of each stream's head."""
    heads, deadline = dict.fromkeys(streams, b""), time.monotonic() + 60
    poll = select.poll()
    by_number = {stream.fileno(): stream for stream in streams}
    for stream in streams:
        poll.register(stream, select.POLLIN)
    while by_number and time.monotonic() < deadline:
        for number, _ in poll.poll(1000):
            stream = by_number[number]
            heads[stream] += (piece := stream.recv(4096))
            if not piece or b"\r\n\r\n" in heads[stream]:
                poll.unregister(stream)
                del by_number[number]
    return [head.partition(b"\r\n")[0] for head in heads.values()]


def _room_for_files(pid: int) -> int:
    """In the kernel's table of them, as it is."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("FDSize:")[2].split(maxsplit=1)[0])


def test_newcomers_are_served_beside_5000_idle_connections_and_1500_streams(
    database_url: str,
    redis_url: str,
    home: Path,
    tmp_path: Path,
    make_model: Any,
    auth: Callable[..., dict[str, str]],
    wait_until: Any,
) -> None:
    if files.raise_limit() < IDLE + STREAMS + 1000:
        pytest.skip("this machine allows too few open files")
    make_model("ada", "m")
    state = tmp_path / "state.json"
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": SECRET,
        "INFERENCE_HOME": str(home),
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "STATE_FILE": str(state),
        "RATE_PER_TOKEN": "0",
        "RATE_PER_USER": "0",
    }
    headers = auth("ada")
    with _gateway(env, state, wait_until) as (port, pid), ExitStack() as opened:
        # To enlarge it later would stop the event loop, some 20 ms each time.
        assert _room_for_files(pid) >= IDLE + STREAMS
        url = f"http://127.0.0.1:{port}"
        body = {"model": "ada/m", "input": {"prompt": "hi"}}
        made = httpx.post(f"{url}/v1/predictions", json=body, headers=headers).json()

        def connect() -> socket.socket:
            return opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))

        for _ in range(IDLE):
            connect()
        request = f"GET /v1/predictions/{made['id']}/stream HTTP/1.1\r\nHost: a\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )
        streams = [connect() for _ in range(STREAMS)]
        for stream in streams:
            stream.sendall(f"{request}\r\n".encode())
        assert set(_wait_for_begin(streams)) == {b"HTTP/1.1 200 OK"}
        answer = httpx.get(f"{url}/v1/predictions/{made['id']}", headers=headers, timeout=20)
        assert answer.json()["status"] == "starting"
        assert psutil.Process(pid).memory_info().rss < 300 * 2**20
