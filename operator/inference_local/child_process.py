"""The supervisor's child processes: start, watch, restart, stop."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from inference_contract import backoff
from inference_operator.local import log_rotation, procfs

FIRST_BACKOFF = 0.1
MAX_BACKOFF = 10.0
HEALTHY_AFTER = 30.0
"""Seconds of life after which earlier deaths no longer count."""
MAX_LOG_BYTES = 20_000_000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class ProcessSpec:
    name: str
    argv: list[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    is_ready: Callable[[int], bool] = lambda _pid: True
    """Called with the pid every few milliseconds while the process starts."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    """From the signal to SIGKILL."""
    kills_children: bool = False
    """Whether SIGKILL goes to its children too. PostgreSQL's backends end when their server ends,
    but not while they are stopped (SIGSTOP): the next server would find the shared memory in use
    and refuse to start."""


@dataclass
class Child:
    spec: ProcessSpec
    restarts: int = 0
    deaths_in_a_row: int = 0
    """Since the process was last ready."""
    ready: bool = False
    started_at: float = 0.0
    """Unix time, for display only."""
    backoff: float = 0.0
    """Seconds from the last death to the next start."""
    next_start: float | None = None
    """By the monotonic clock. None while the process runs, and when it must not be restarted."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _identity: str | None = None
    _born: float = 0.0
    _early_deaths: int = 0
    """In a row: before it had lived for HEALTHY_AFTER."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, now: float) -> None:
        self._process = spawn(self.spec)
        self._identity = procfs.identity(self._process.pid)
        self._born = now
        self.started_at = time.time()
        self.next_start = None
        self.ready = False

    def tick(self, now: float) -> int | None:
        """Check whether the process has died, is due for a restart, or is ready.

        Returns:
            The exit code, if the process has died since the last call.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self.ready = False
            self.restarts += 1
            self.deaths_in_a_row += 1
            lived = now - self._born
            self._early_deaths = 1 if lived >= HEALTHY_AFTER else self._early_deaths + 1
            self.backoff = backoff.pause(self._early_deaths, FIRST_BACKOFF, MAX_BACKOFF)
            self.next_start = now + self.backoff
            return code
        if self._process is None and self.next_start is not None and now >= self.next_start:
            self.start(now)
        elif self._process is not None and not self.ready:
            self.ready = self.spec.is_ready(self._process.pid)
            if self.ready:
                self.deaths_in_a_row = 0
        return None

    def tell_to_stop(self) -> None:
        self.next_start = None
        if self._process is not None:
            self._process.send_signal(self.spec.stop_signal)

    def is_gone(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        if self._process is not None and not self.is_gone():
            _kill(self._process.pid, self.spec.kills_children)
            self._process.wait()

    def record(self) -> dict[str, Any]:
        """For `inference status`, and for the clean-up after a supervisor that died."""
        return {
            "pid": None if self.is_gone() else self.pid,
            "identity": self._identity,
            "started_at": self.started_at,
            "restarts": self.restarts,
            "ready": self.ready,
            "stop_signal": int(self.spec.stop_signal),
            "kills_children": self.spec.kills_children,
        }


def spawn(spec: ProcessSpec, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start in a session of its own, so that Ctrl-C reaches the supervisor only.

    The kernel sends the process its stop signal when the supervisor dies.
    """
    parent = os.getpid()

    def before_exec() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # The supervisor blocks some signals.
        _libc.prctl(_PR_SET_PDEATHSIG, int(spec.stop_signal), 0, 0, 0)
        if os.getppid() != parent:  # The parent died before prctl: no signal would come.
            os._exit(1)

    with open_log(spec.log) as log:
        return subprocess.Popen(
            spec.argv,
            env=dict(spec.env),
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            start_new_session=True,
            preexec_fn=before_exec,
        )


def open_log(path: Path) -> BinaryIO:
    """Open for appending, after a rotation if the file is large."""
    rotate(path)
    return path.open("ab")


def rotate(path: Path) -> None:
    """Rotate a log that is too large; it replaces the earlier rotated file."""
    with suppress(OSError):  # A full disk must not stop the processes.
        log_rotation.rotate(path, MAX_LOG_BYTES)


def end_leftovers(records: Iterable[Mapping[str, Any]], seconds: float = 10.0) -> list[int]:
    """Stop the processes of a supervisor that died, found by recorded pid and identity.

    Returns:
        The pids of the processes that were still running.
    """
    left = {
        int(record["pid"]): record
        for record in records
        if record["pid"] and procfs.identity(record["pid"]) == record["identity"]
    }
    for pid, record in left.items():
        with suppress(ProcessLookupError):
            os.kill(pid, record["stop_signal"])
    deadline = time.monotonic() + seconds
    waiting = dict(left)
    while waiting:
        waiting = {p: r for p, r in waiting.items() if procfs.identity(p) == r["identity"]}
        if time.monotonic() > deadline:
            for pid, record in waiting.items():
                _kill(pid, record.get("kills_children", False))
        time.sleep(0.02)
    return sorted(left)


def _kill(pid: int, with_children: bool) -> None:
    for each in (pid, *(procfs.children(pid) if with_children else ())):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
