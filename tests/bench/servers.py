"""Servers under load, and the two that ours is held against."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import load
from inference_local import valkey
from peers import QUEUE
from processes import free_port, wait_for_port

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


@dataclass
class Server:
    name: str
    url: str
    headers: Mapping[str, str]
    groups: Callable[[], dict[str, list[int]]] = dict
    answered: int = 0
    """Successful answers so far."""

    def load(self, model: str, connections: int, seconds: int) -> load.Load:
        """POST echo predictions."""
        body = {"model_id": model, "input": {"text": "hello, world"}}
        url = f"{self.url}/v1/predictions"
        found = load.run(url, body, self.headers, connections=connections, seconds=seconds)
        self.answered += found.answers - found.failures
        return found


@contextmanager
def _running(argv: list[str], **env: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv,
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE), **env},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _app(name: str, **env: str) -> Iterator[str]:
    """The URL of an app of `peers`, under the same server and the same options as the gateway."""
    port = free_port()
    argv = [str(BIN / "uvicorn"), f"peers:{name}", "--port", str(port), "--no-access-log"]
    argv += ["--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]
    with _running(argv, **env) as process:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def bare_app() -> Iterator[Server]:
    with _app("bare") as url:
        yield Server("bare", url, {})


@contextmanager
def stock_rq() -> Iterator[Server]:
    """FastAPI and RQ as their manuals show them, on a Valkey of their own."""
    with tempfile.TemporaryDirectory(prefix="inference-bench-") as name:
        folder = Path(name)
        worker = [str(BIN / "rq"), "worker", "--worker-class", "rq.SimpleWorker", "--quiet"]
        url = valkey.url(folder)
        with _running(valkey.command(folder, folder)):
            while not valkey.is_ready(folder):
                time.sleep(0.02)
            with _running([*worker, "--url", url, QUEUE]), _app("stock_rq", REDIS_URL=url) as app:
                yield Server("stock RQ", app, {})
