"""`python -m inference_local.supervisor`: keeps the processes of embedded mode running.

One thread waits for signals: SIGCHLD when a child died, SIGTERM or SIGINT to stop. Standard
library only, so that it needs little memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from inference_contract import files, statefile
from inference_contract.logs import JsonFormatter
from inference_local import postgres, stack
from inference_local.child_process import Child, ProcessSpec, end_leftovers, rotate, spawn
from inference_local.home import Home, HomeError, describe, write_private
from inference_local.postgres import PostgresError
from inference_local.valkey import ValkeyError
from inference_operator.local import procfs

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
SIGNALS = {*STOP_SIGNALS, signal.SIGCHLD}
POLL = 0.01
"""Seconds between two checks of a process that is not ready yet."""
IDLE = 5.0
READY_WITHIN = 120.0
MAX_DEATHS = {"postgres": 7, "valkey": 7}
"""Deaths in a row after which the start fails. More for the servers: PostgreSQL refuses to start
while backends of a killed server still run. Once all processes were ready, restarts never stop."""
MAX_DEATHS_OF_OTHERS = 3
RUNNERS_STOP_WITHIN = 15.0
"""Seconds: the runners' drain, and the start of the process that stops them."""

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The stack does not start. The message is one line that says why."""


class _Stop(Exception):
    """A stop signal arrived."""


class Supervisor:
    def __init__(self, planned: stack.Stack, notify: Callable[[str], None]) -> None:
        self._stack = planned
        self._home = planned.home
        self._print = notify
        self._children: dict[str, Child] = {}
        self._state: dict[str, Any] = {
            "pid": os.getpid(),
            "identity": procfs.identity(os.getpid()),
            "started_at": time.time(),
            "version": _version(),
            "url": planned.url,
            "database_url": planned.database_url,
            "redis_url": planned.redis_url,
            "phase": "starting",
            "message": "",
            "step": "",
            "steps": [],
        }
        self._written: str = ""
        self._next_rotation = 0.0

    def run(self) -> int:
        """Run until a stop signal. Returns the exit code."""
        code = 0
        try:
            self._start()
            while True:
                self._turn()
        except _Stop:
            self._set("stopping")
        except (StartError, PostgresError, ValkeyError) as error:
            code = 1
            self._set("stopping", message=str(error))
        except OSError as error:
            _log.exception("the operating system refused")
            code = 1
            self._set("stopping", message=describe(error, self._home.root))
        finally:
            self._stop_all()
            self._set("failed" if code else "stopped")
        if code:
            sys.stderr.write(f"{self._state['message']}\n")
        return code

    def _start(self) -> None:
        leftovers = (statefile.read(self._home.supervisor_file) or {}).get("children", {})
        if ended := end_leftovers(leftovers.values()):
            _log.warning("ended what a killed supervisor left", extra={"pids": ended})
        self._write()
        with self._step("PostgreSQL and Valkey"):
            self._launch(self._stack.server("valkey"))
            fresh = postgres.data_version(self._home.postgres) is None
            postgres.initialize(self._home.postgres)
            self._launch(self._stack.server("postgres"))
            self._until_ready(stack.SERVERS)
        with self._step("migrations"):
            self._once(self._stack.migrate())
        if fresh or self._home.token() is None:
            with self._step("administrator's token"):
                token = self._once(self._stack.make_token(), stdout=subprocess.PIPE)
                write_private(self._home.token_file, token)
        with self._step("gateway, dispatch and operator"):
            for name in stack.SERVICES:
                self._launch(self._stack.service(name))
            self._until_ready(stack.SERVICES)
        self._set("ready")
        self._print(f"ready at {self._stack.url}")

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        self._print(f"{name} …")
        self._state["step"] = name
        self._write()
        yield
        seconds = round(time.monotonic() - start, 3)
        self._state["steps"].append({"name": name, "seconds": seconds})
        _log.info("step done", extra={"step": name, "seconds": seconds})
        self._write()

    def _launch(self, spec: ProcessSpec) -> None:
        child = self._children[spec.name] = Child(spec)
        child.start(time.monotonic())
        self._write()

    def _until_ready(self, names: Sequence[str]) -> None:
        children = [self._children[name] for name in names]
        deadline = time.monotonic() + READY_WITHIN
        while not all(child.ready for child in children):
            self._turn()
            for child in children:
                name, log = child.spec.name, child.spec.log
                if child.deaths_in_a_row >= MAX_DEATHS.get(name, MAX_DEATHS_OF_OTHERS):
                    raise StartError(f"{name} does not start: {last_line(log)} (see {log})")
                if not child.ready and time.monotonic() > deadline:
                    raise StartError(f"{name} is not ready after {READY_WITHIN:.0f} s: see {log}")

    def _once(self, spec: ProcessSpec, stdout: int | None = None) -> str:
        """Run a process to its end while watching the children; returns its standard output."""
        with spawn(spec, stdout=stdout) as process:
            try:
                while process.poll() is None:
                    self._turn()
            except BaseException:
                process.kill()
                raise
            output = process.stdout.read().decode() if process.stdout else ""
        if process.returncode != 0:
            raise StartError(f"{spec.name}: {last_line(spec.log)}")
        return output.strip()

    def _turn(self) -> None:
        """Wait for a signal or for the next due restart, and handle it."""
        now = time.monotonic()
        due = [IDLE]
        for child in self._children.values():
            if child.next_start is not None:
                due.append(child.next_start - now)
            elif not child.ready:
                due.append(POLL)
        caught = signal.sigtimedwait(SIGNALS, max(0.0, min(due)))
        # Compare with the known signals: on a timeout after a SIGCONT, CPython's sigtimedwait
        # returns a signal that was never sent, with an arbitrary number.
        if caught is not None and caught.si_signo in STOP_SIGNALS:
            raise _Stop
        for child in self._children.values():
            code = child.tick(time.monotonic())
            if code is not None:
                extra = {"child": child.spec.name, "code": code, "restart_in": child.backoff}
                _log.warning("a child died", extra=extra)
        self._rotate_logs()
        self._write()

    def _rotate_logs(self) -> None:
        if time.monotonic() >= self._next_rotation:
            self._next_rotation = time.monotonic() + IDLE
            own = self._home.logs / "supervisor.log"
            for log in (own, *(child.spec.log for child in self._children.values())):
                rotate(log)

    def _stop_all(self) -> None:
        """Stop the processes that create work first, the servers that store it last."""
        self._stop("operator")
        stopping = self._stop_runners() if "operator" in self._children else None
        self._stop("gateway")
        if stopping is not None:
            try:
                stopping.wait(RUNNERS_STOP_WITHIN)
            except subprocess.TimeoutExpired:
                _log.warning("the runners did not stop in time")
                stopping.kill()
                stopping.wait()
        self._stop("dispatch")
        self._stop("postgres", "valkey")

    def _stop_runners(self) -> subprocess.Popen[bytes] | None:
        try:
            return spawn(self._stack.stop_runners())
        except OSError:
            _log.exception("cannot stop the runners")
            return None

    def _stop(self, *names: str) -> None:
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            child.tell_to_stop()
        end = time.monotonic() + max((c.spec.stop_seconds for c in children), default=0)
        while not all(child.is_gone() for child in children) and time.monotonic() < end:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
        for child in children:
            if not child.is_gone():
                _log.warning("killed: it did not stop", extra={"child": child.spec.name})
                child.kill()
            child.ready = False
        self._write()

    def _set(self, phase: str, message: str | None = None) -> None:
        self._state["phase"] = phase
        if message is not None:
            self._state["message"] = message
        _log.info("the stack is %s", phase, extra={"reason": message or ""})
        self._write()

    def _write(self) -> None:
        """Write the state file if the state has changed."""
        children = {name: child.record() for name, child in self._children.items()}
        state = {**self._state, "children": children}
        text = json.dumps(state)
        if text == self._written:
            return
        try:
            statefile.write(self._home.supervisor_file, state)
        except OSError as error:  # A full disk must not stop the processes.
            _log.warning("cannot write the state file: %s", error.strerror)
            return
        self._written = text


def last_line(log: Path) -> str:
    """The last line of a log; of a JSON line, its event."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return "no log"
    line = next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "no log")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(line)["event"])
    return line


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("inference-server")
    except PackageNotFoundError:
        return "unknown"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="inference_local.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--foreground", action="store_true")
    options = parser.parse_args(argv)
    files.raise_limit()  # Child processes inherit it.
    take_signals()
    home = Home(options.home)
    try:
        home.prepare()
        with home.locked() as mine:
            if not mine:
                raise HomeError(f"{home.root} is in use by another instance: see inference status")
            _log_to(home, options.foreground)
            notify = _print if options.foreground else _keep_quiet
            planned = stack.of(home, options.host, options.port)
            home.choose(host=options.host, port=options.port)
            return Supervisor(planned, notify).run()
    except HomeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def take_signals() -> None:
    """Block the signals that the supervisor waits for. Signals that the caller ignores (`nohup`, a
    script's `&`) are reset, for children too: otherwise stop signals would have no effect."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, SIGNALS)


def _log_to(home: Home, foreground: bool) -> None:
    """Log to the file, also in the foreground; in the background standard error goes there too."""
    file = home.logs / "supervisor.log"
    handler = logging.FileHandler(file) if foreground else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("supervisor"))
    logging.basicConfig(handlers=[handler], level="INFO")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _keep_quiet(_text: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
