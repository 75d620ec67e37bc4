"""Start and stop a home's supervisor, and follow its state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from inference_contract import statefile
from inference_local import child_process, stack
from inference_local.cli.context import ProgressLine
from inference_local.cli.errors import CliError
from inference_local.home import Home
from inference_operator.local import procfs

POLL = 0.02
STOPS_WITHIN = 60.0


def arguments(home: Home, host: str, port: int) -> list[str]:
    given = ["--home", str(home.root), "--host", host, "--port", str(port)]
    return [*stack.python("inference_local.supervisor"), *given]


def in_foreground(home: Home, host: str, port: int) -> None:
    """Replace this process by the supervisor; does not return."""
    argv = [*arguments(home, host, port), "--foreground"]
    os.execve(sys.executable, argv, stack.environment(os.environ))  # noqa: S606 - our own


def detached(home: Home, host: str, port: int) -> dict[str, Any]:
    """Start the supervisor in a session of its own.

    Returns:
        Its state, once ready.

    Raises:
        CliError: with the supervisor's error, if the stack does not start.
    """
    log = home.logs / "supervisor.log"
    with child_process.open_log(log) as file:
        process = subprocess.Popen(
            arguments(home, host, port),
            cwd=home.root,
            env=stack.environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    progress = ProgressLine()
    try:
        while True:
            died = process.poll() is not None
            state = statefile.read(home.supervisor_file) or {}
            if state.get("pid") == process.pid:
                if state["phase"] == "ready":
                    process.returncode = 0  # Without this, Popen warns that the child still runs.
                    return state
                progress.show(state["step"] if state["phase"] == "starting" else state["phase"])
            if died:
                raise CliError(_why(state, process.pid, log))
            time.sleep(POLL)
    finally:
        progress.clear()


def _why(state: dict[str, Any], pid: int, log: Path) -> str:
    from inference_local.supervisor import last_line

    if state.get("pid") == pid and state.get("message"):
        return str(state["message"])
    return f"{last_line(log)} (see {log})"


def running(home: Home) -> dict[str, Any] | None:
    """The state of the supervisor that holds the home's lock; None if no process holds it."""
    for _ in range(100):
        if not home.is_in_use():
            return None
        state = statefile.read(home.supervisor_file)
        if state and procfs.identity(state["pid"]) == state["identity"]:
            return state
        time.sleep(POLL)  # The supervisor has the lock and is about to write its state.
    raise CliError(f"{home.lock_file} is held by a process that is not our supervisor")


def wait_ready(home: Home) -> dict[str, Any] | None:
    """The state of the supervisor once it is ready; None if it has ended instead."""
    progress = ProgressLine()
    try:
        while (state := running(home)) and state["phase"] != "ready":
            progress.show(state["step"] if state["phase"] == "starting" else state["phase"])
            time.sleep(POLL)
        return state
    finally:
        progress.clear()


def stop(home: Home) -> bool:
    """Stop all processes of this home, also those that a killed supervisor left.

    Returns:
        Whether any process ran.

    Raises:
        CliError: if the supervisor does not stop.
    """
    state = running(home)
    if state is None:
        return _stop_leftovers(home)
    with suppress(ProcessLookupError):
        os.kill(state["pid"], signal.SIGTERM)
    progress = ProgressLine()
    deadline = time.monotonic() + STOPS_WITHIN
    try:
        while home.is_in_use():
            progress.show("stopping")
            if time.monotonic() > deadline:
                raise CliError(f"the supervisor (pid {state['pid']}) does not stop")
            time.sleep(POLL)
    finally:
        progress.clear()
    return True


def _stop_leftovers(home: Home) -> bool:
    state = statefile.read(home.supervisor_file) or {}
    ended = child_process.end_leftovers(state.get("children", {}).values())
    runners = list((home.run / "runners").glob("*.launch"))
    if runners:
        chosen = home.instance()
        planned = stack.of(home, chosen["host"], chosen["port"])
        child_process.spawn(planned.stop_runners()).wait()
    return bool(ended or runners)
