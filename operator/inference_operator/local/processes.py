"""Runners as processes of this machine: start, adopt, watch, stop.

Each is a session leader and outlives the operator; the next operator adopts them.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from inference_contract import statefile
from inference_contract.pods import RunnerEnv, RunnerPhase
from inference_contract.queues import model_key, worker_name
from inference_operator.local import procfs
from inference_operator.local.runner_files import Launch, RunnerFiles, recorded
from inference_operator.local.runners import Exit, Runner
from inference_operator.plan import RunnerPlan

COMMAND = (sys.executable, "-P", "-m", "inference_runner")
PASSED_ON = (
    *("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "XDG_CACHE_HOME"),
    *("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    # for downloads
    *("HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)
"""The variables that a runner inherits. Others may hold secrets, and its code may be hostile."""
_MAX_MESSAGE = 2000

log = logging.getLogger(__name__)


@dataclass
class _Process:
    runner: Runner
    launch: Launch
    files: RunnerFiles
    pid: int
    child: subprocess.Popen[bytes] | None = None
    """None when an earlier operator started it: then its exit code is not known."""
    killed: str = ""


class Processes:
    """The runners of one home. Not thread-safe; one operator per home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: dict[str, _Process] = {}

    def adopt(self) -> None:
        """Take over runners of an earlier operator, and remove the files of ended ones."""
        for launch, files in recorded(self._home):
            pid = _running(launch)
            started = procfs.started(pid) if pid else None
            if pid is None or started is None:
                files.remove()
                continue
            runner = Runner(
                launch.model, launch.slot, launch.name, launch.hash, started, launch.grace_seconds
            )
            if launch.pid is None:
                launch = _complete(launch, files, pid)
            self._processes[launch.name] = _Process(runner, launch, files, pid)
            log.info("adopted runner %s, pid %d", launch.name, pid, extra={"model": launch.model})

    def start(self, plan: RunnerPlan, slot: int) -> None:
        """Start one replica.

        Raises:
            OSError: if the process or its files cannot be created.
        """
        files = RunnerFiles(self._home, plan.model, slot)
        name = worker_name(model_key(plan.model), f"{slot}-{secrets.token_hex(4)}")
        launch = Launch(plan.model, slot, name, plan.hash, plan.grace_seconds, files.prepare())
        files.record(launch)
        with files.log.open("ab") as output:
            child = subprocess.Popen(
                COMMAND,
                cwd=files.folder,
                env=environment(plan, name, files.state),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        launch = _complete(launch, files, child.pid)
        runner = Runner(plan.model, slot, name, plan.hash, time.monotonic(), plan.grace_seconds)
        self._processes[name] = _Process(runner, launch, files, child.pid, child)
        log.info("started runner %s, pid %d", name, child.pid, extra={"model": plan.model})

    def observe(self, now: float) -> tuple[list[Runner], list[Exit]]:
        """The live runners, and the runners that ended since the last call."""
        exits = []
        for name, process in list(self._processes.items()):
            is_running = _is_running(process)
            if is_running:
                process.files.rotate()
            # After the check for its end, so that a dead runner's last state is read.
            process.runner = _read_state(process, now)
            if not is_running:
                del self._processes[name]
                exits.append(_collect_exit(process))
        return [process.runner for process in self._processes.values()], exits

    def stop(self, runner: Runner, now: float) -> None:
        process = self._processes[runner.name]
        process.runner = replace(process.runner, stop_by=now + runner.grace_seconds)
        log.info("stopping runner %s", runner.name, extra={"model": runner.model})
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)

    def kill(self, runner: Runner, reason: str) -> None:
        process = self._processes[runner.name]
        if not process.killed:
            log.warning("killing %s: %s", runner.name, reason, extra={"model": runner.model})
        process.killed = reason
        _kill_group(process.pid)


def environment(plan: RunnerPlan, name: str, state: Path) -> dict[str, str]:
    passed_on = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    own: Mapping[str, str] = {
        RunnerEnv.NAME: name,
        RunnerEnv.STATE_FILE: str(state),
        RunnerEnv.HOST: "127.0.0.1",
        RunnerEnv.PORT: "0",
        RunnerEnv.REPLACES_ITSELF: "true",
        "PYTHONUNBUFFERED": "1",  # The log then has all that a model printed before it died.
    }
    return {**passed_on, **plan.env, **own}


def stop_all(home: Path, grace_seconds: float | None = None) -> int:
    """SIGTERM every runner of a home, wait, and kill those that exceed their grace period.

    Args:
        grace_seconds: used instead of each runner's own.

    Returns:
        The number of runners.
    """
    processes = Processes(home)
    processes.adopt()
    found, _ = processes.observe(time.monotonic())
    for runner in found:
        grace = runner.grace_seconds if grace_seconds is None else grace_seconds
        processes.stop(replace(runner, grace_seconds=grace), time.monotonic())
    while live := processes.observe(time.monotonic())[0]:
        for runner in live:
            if runner.stop_by is not None and time.monotonic() >= runner.stop_by:
                processes.kill(runner, "its time to drain is over")
        time.sleep(0.05)
    return len(found)


def _complete(launch: Launch, files: RunnerFiles, pid: int) -> Launch:
    launch = replace(launch, pid=pid, identity=procfs.identity(pid))
    with suppress(OSError):  # Without a pid, the next operator searches by name.
        files.record(launch)
    return launch


def _running(launch: Launch) -> int | None:
    """The pid of a recorded launch; None if the process has ended."""
    if launch.pid is None:  # The operator died just before or after the start.
        return procfs.find(RunnerEnv.NAME, launch.name)
    is_same = launch.identity is not None and procfs.identity(launch.pid) == launch.identity
    return launch.pid if is_same else None


def _is_running(process: _Process) -> bool:
    """A child that has ended stays a zombie, and so keeps its pid, until `_collect_exit`."""
    return procfs.started(process.pid) is not None and (
        process.child is not None or _running(process.launch) is not None
    )


def _read_state(process: _Process, now: float) -> Runner:
    """The runner from its state file. The runner writes the file, so it cannot be trusted."""
    runner = process.runner
    said = (statefile.read(process.files.state) or {}).get("phase")
    try:
        phase = RunnerPhase(str(said))
    except ValueError:
        return runner
    ready_since, stop_by = runner.ready_since, runner.stop_by
    if phase is RunnerPhase.LOADING:
        ready_since = None  # It restarted: whether it can still load is unknown.
    if phase is RunnerPhase.READY and ready_since is None:
        ready_since = now
    if phase is RunnerPhase.DRAINING and stop_by is None:  # Stopped from outside.
        stop_by = now + runner.grace_seconds
    return replace(runner, phase=phase, ready_since=ready_since, stop_by=stop_by)


def _collect_exit(process: _Process) -> Exit:
    """Read the exit of a dead runner, remove its files, and kill processes that it started."""
    code = None
    if process.child is not None:
        _kill_group(process.pid)
        code = process.child.wait()
    state = statefile.read(process.files.state) or {}
    runner, message = process.runner, str(state.get("message", ""))[:_MAX_MESSAGE]
    if process.killed and runner.stop_by is None:
        runner, message = replace(runner, phase=RunnerPhase.FAILED), process.killed
    tail: Sequence[str] = process.files.tail(process.launch.log_offset)
    process.files.remove()
    return Exit(runner, code, message, tail)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
