"""A server of its own for the benchmark: `inference up` in a temporary home."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2

from inference_contract import statefile
from inference_local.home import Home
from processes import free_port

HERE = Path(__file__).parent
INFERENCE = str(Path(sys.executable).parent / "inference")
NAMES = (
    *("inference_gateway.dispatch", "inference_gateway", "inference_operator", "inference_runner"),
    *("valkey-server", "postgres", "inference_local"),
)
"""What stands in a command line, most special first."""


class Stack:
    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def up(self) -> float:
        """Seconds until everything is ready."""
        start = time.monotonic()
        self._run("up", "--port", str(self.port))
        return time.monotonic() - start

    def down(self) -> None:
        self._run("down")

    def _run(self, *arguments: str) -> None:
        env = {**os.environ, "INFERENCE_HOME": str(self.home.root)}
        argv = [INFERENCE, *arguments]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"inference {arguments[0]} failed: {done.stdout}{done.stderr}")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.home.token()}"}

    @property
    def redis_url(self) -> str:
        return str(self._state["redis_url"])

    @property
    def _state(self) -> dict[str, Any]:
        return statefile.read(self.home.supervisor_file) or {}

    def sql(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement, committed at once."""
        connection = psycopg2.connect(self._state["database_url"])
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, args)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def groups(self) -> dict[str, list[int]]:
        """Pids of this home's processes by name; what they started themselves is not listed."""
        named = {p.pid: name for p in psutil.process_iter() if (name := self._name(p))}
        groups: dict[str, list[int]] = {}
        for pid, name in named.items():
            if named.get(psutil.Process(pid).ppid()) != name:
                groups.setdefault(name, []).append(pid)
        return groups

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process but the supervisor stopped: while others are measured, it does nothing."""
        pids = [pid for name, group in self.groups().items() for pid in group if name != "local"]
        processes = [psutil.Process(pid) for pid in pids]
        family = {one for p in processes for one in (p, *p.children(recursive=True))}
        for process in family:
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's helpers come and go.
                process.suspend()
        try:
            yield
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def _name(self, process: psutil.Process) -> str | None:
        try:
            line, env = " ".join(process.cmdline()), process.environ()
        except psutil.Error:
            return None
        home = str(self.home.root)
        place = env.get("RUNNER_STATE_FILE", env.get("INFERENCE_HOME", ""))
        if not (place.startswith(home) or home in line):
            return None
        found = next((name for name in NAMES if name in line), None)
        return found and found.removeprefix("inference_").removeprefix("gateway.")

    def apply(self, name: str, **spec: Any) -> str:
        """Create or replace a model; returns its id."""
        document = {
            "apiVersion": "inference-server.dev/v1alpha1",
            "kind": "InferenceModel",
            "metadata": {"name": name, "namespace": "admin"},
            "spec": spec,
        }
        url = f"{self.url}/v1/models/admin/{name}"
        httpx.put(url, json=document, headers=self.headers, timeout=30).raise_for_status()
        return f"admin/{name}"

    def custom_model(self, name: str, class_name: str, *, ready: bool = True) -> str:
        """A model of `models.py` with one replica; returns its id when that is ready."""
        model = self.apply(
            name,
            type="custom",
            source={"path": str(HERE)},
            engine={"className": class_name},
            inputSchema={"text": {"type": "string"}},
            minReplicas=1,
            batching={"maxBatchSize": 64},
            timeouts={"loadSeconds": 86_400},
        )
        if ready:
            self.wait_until_ready(model)
        return model

    def wait_until_ready(self, model: str, seconds: float = 300) -> None:
        url = f"{self.url}/v1/models/{model}"

        def is_ready() -> bool:
            reply = httpx.get(url, headers=self.headers, timeout=30).raise_for_status().json()
            return int(reply["status"]["ready_replicas"]) > 0

        _wait(is_ready, f"{model} is ready", seconds)

    def wait_until_done(self, model: str, seconds: float = 300) -> None:
        statement = "SELECT 1 FROM predictions WHERE model = %s AND completed_at IS NULL LIMIT 1"
        _wait(lambda: not self.sql(statement, model), f"{model} has no open prediction", seconds)

    def verify(self, model: str, answered: int) -> None:
        """Every answered prediction is a row, every row has succeeded."""
        self.wait_until_done(model)
        statement = "SELECT status, count(*) FROM predictions WHERE model = %s GROUP BY 1"
        counts = dict(self.sql(statement, model))
        rows = sum(counts.values())
        verdict = "none lost" if rows >= answered and set(counts) <= {"succeeded"} else "WRONG"
        print(f"by SQL: {rows:,} rows {counts}, {answered:,} answered: {verdict}", flush=True)


def _wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not so after {seconds:.0f} s: {what}")
        time.sleep(0.05)


@contextmanager
def running(count: int = 1) -> Iterator[Sequence[Stack]]:
    """So many servers side by side, each in a home of its own; stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="inference-bench-") as name:
        stacks = [Stack(Path(name) / f"home{number}") for number in range(count)]
        try:
            for stack in stacks:
                stack.up()
            yield stacks
        finally:
            for stack in stacks:
                stack.down()
