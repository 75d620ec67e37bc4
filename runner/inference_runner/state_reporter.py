"""Publishes the runner's state: the state file and the probes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from inference_contract import statefile
from inference_contract.pods import RunnerPhase, RunnerState
from inference_contract.probes import ProbeReply, ProbeServer
from inference_runner.metrics import RunnerMetrics

log = logging.getLogger(__name__)

STUCK_SECONDS = 60.0
"""Without progress of the loop for so long, and no model code running, the runner is not alive."""


class StateReporter:
    """The phase, in memory, in the state file and at /health.

    Args:
        path: the state file, if the operator wants one.
    """

    def __init__(self, path: Path | None, host: str, port: int, metrics: RunnerMetrics) -> None:
        self._path = path
        self._lock = threading.RLock()  # reentrant: a signal handler may report at any time
        self._state: RunnerState = {"phase": "", "pid": os.getpid(), "port": 0}
        self.working: Callable[[], float] = time.monotonic
        """Returns the time of the loop's last progress, by the monotonic clock."""
        routes = {"/health/live": self._live, "/health/ready": self._ready}
        self._server = ProbeServer(host, port, {**routes, "/metrics": metrics.reply})
        self._state["port"] = self._server.port

    def report(
        self, phase: RunnerPhase, message: str = "", load_seconds: float | None = None
    ) -> None:
        with self._lock:
            self._state["phase"] = phase.value
            self._state["message"] = message
            if load_seconds is not None:
                self._state["load_seconds"] = round(load_seconds, 3)
            if self._path is None:
                return
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                statefile.write(self._path, self._state)
            except OSError as error:  # a full disk must not end a working runner
                log.error("cannot write the state file", extra={"error": str(error)})

    def forget(self) -> None:
        """In a forked child: file and port stay the parent's."""
        self._path = None
        self._server.forget()

    def close(self) -> None:
        self._server.close()

    def _live(self) -> ProbeReply:
        silent = time.monotonic() - self.working()
        if silent < STUCK_SECONDS:
            return ProbeReply(200, b"ok\n")
        return ProbeReply(503, f"no progress for {silent:.0f} s\n".encode())

    def _ready(self) -> ProbeReply:
        phase = self._state["phase"]
        return ProbeReply(200 if phase == RunnerPhase.READY else 503, f"{phase}\n".encode())
