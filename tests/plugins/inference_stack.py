"""Fixtures `stack`, `new_stack` and `new_home`: embedded mode as the `inference` command has it.

A pytest plugin, because tests under importlib mode cannot import one another; `tests/conftest.py`
names it in `pytest_plugins`, and `pythonpath` in pyproject.toml makes it importable.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from inference_contract import statefile
from inference_local import postgres
from inference_local.home import Home
from inference_operator.local import procfs
from inference_operator.local.runner_files import recorded

BIN = Path(sys.executable).parent
OURS = ("INFERENCE_", "API_")
"""Prefixes of the developer's own variables, which a test's stack must not get."""


class Stack:
    """One home with its processes. Processes are named as in `inference status`."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        self.env = {**inherited, "INFERENCE_HOME": str(home), **env}

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The `inference` command on this home; its exit code is the caller's to check."""
        given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 90, **options}
        return subprocess.run(
            [str(BIN / "inference"), *arguments], env=self.env, check=False, **given
        )

    def start(self) -> Stack:
        done = self.run("up", "--port", "0" if not self._state() else str(self.port))
        assert done.returncode == 0, done.stderr + self._logs()
        return self

    def stop(self) -> None:
        done = self.run("down")
        assert done.returncode == 0, done.stderr

    @property
    def url(self) -> str:
        return str(self._state()["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    @property
    def database_url(self) -> str:
        return str(self._state()["database_url"])

    @property
    def redis_url(self) -> str:
        return str(self._state()["redis_url"])

    def pids(self) -> dict[str, int]:
        """Process → pid of running processes. Runners are `runner <model> <slot>`; `runner` is one
        of them."""
        state = self._state()
        records = {"supervisor": state, **state["children"]}
        found = {n: r["pid"] for n, r in records.items() if r["pid"] and _runs(r["pid"], r)}
        for launch, _ in recorded(self.home):
            if launch.pid and procfs.identity(launch.pid) == launch.identity:
                found[f"runner {launch.model} {launch.slot}"] = launch.pid
                found.setdefault("runner", launch.pid)
        return found

    def kill(self, name: str) -> int:
        """SIGKILL; returns the pid once it is gone."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        while procfs.identity(pid) is not None:
            time.sleep(0.005)
        return pid

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Until it `is_ready`."""
        end = time.monotonic() + timeout
        while not self.is_ready():
            assert time.monotonic() < end, f"not ready: {self._state()}{self._logs()}"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether all processes of the supervisor are ready."""
        state = self._state()
        children = state.get("children", {}).values()
        return state.get("phase") == "ready" and all(
            child["ready"] and _runs(child["pid"], child) for child in children
        )

    def _state(self) -> dict[str, Any]:
        return statefile.read(self.home / "run" / "supervisor.json") or {}

    def _logs(self) -> str:
        """The ends of all logs, for a failed test's report."""
        files = sorted((self.home / "logs").rglob("*.log"))
        return "".join(f"\n--- {f.name}\n{f.read_text(errors='replace')[-1500:]}" for f in files)


def _runs(pid: int | None, record: dict[str, Any]) -> bool:
    return pid is not None and procfs.identity(pid) == record["identity"]


@pytest.fixture(scope="session")
def _empty_home() -> Iterator[Path]:
    """A home whose PostgreSQL is initialized but was never started: copies start faster."""
    with tempfile.TemporaryDirectory(prefix="inference-home-") as folder:
        home = Home(Path(folder) / "home")
        home.prepare()
        postgres.initialize(home.postgres)
        (home.root / "secrets" / "secret_key").unlink()  # Every home has its own.
        yield home.root


@pytest.fixture(scope="session")
def stack(_empty_home: Path) -> Iterator[Stack]:
    """One stack for all tests of this process: leave it as it was."""
    with _stack(_empty_home) as made:
        yield made.start()


@pytest.fixture
def new_home(_empty_home: Path) -> Iterator[Callable[..., Stack]]:
    """Creates a stack for this test, not started: `new_home(home=None, LEASE_SECONDS="3")`."""
    with ExitStack() as opened:

        def make(home: str | None = None, **env: str) -> Stack:
            return opened.enter_context(_stack(_empty_home, home, **env))

        yield make


@pytest.fixture
def new_stack(new_home: Callable[..., Stack]) -> Callable[..., Stack]:
    """The same, started and ready."""
    return lambda home=None, **env: new_home(home, **env).start()


@contextmanager
def _stack(empty: Path, home: str | None = None, **env: str) -> Iterator[Stack]:
    # Not pytest's tmp_path: its long names are too long for sockets, and it keeps folders.
    with tempfile.TemporaryDirectory(prefix="inference-stack-") as folder:
        made = Stack(Path(home) if home else Path(folder) / "home", **env)
        shutil.copytree(empty, made.home, ignore=shutil.ignore_patterns("lock"))
        try:
            yield made
        finally:
            made.stop()
