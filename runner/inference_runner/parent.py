"""The parent of a runner: see `__main__`. Standard library only, so that it costs little memory.

It does not depend on the child's GIL: output of C code that holds the GIL or crashes is logged all
the same, and a child whose threads cannot run is killed.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import resource
import select
import signal
import termios
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from inference_contract import backoff
from inference_contract.pods import RunnerExit
from inference_runner.ends import Ends

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SPLICE_F_NONBLOCK = 2
_PIPE_BYTES = 1 << 20
"""Output that the pipe can hold before the writer blocks."""
_CHUNK = 1 << 16
_TURN = 1.0
"""Longest time between two checks of the child."""
_libc = ctypes.CDLL(None, use_errno=True)


_HEALTHY_SECONDS = 60.0
"""After so many seconds of work, earlier deaths no longer count."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 5.0
"""Seconds of backoff for a child after one that died at work. Short, as other predictions wait, and
MAX_ATTEMPTS ends the one that kills it. The new child answers probes during the pause, or the
kubelet would kill the container."""
_ON_PURPOSE = frozenset({RunnerExit.HUNG, RunnerExit.STOPPED, RunnerExit.BROKEN})
"""Exit codes without a pause: the runner exited on purpose, to be replaced."""
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(
    child: Callable[[Ends], int],
    silence: float,
    *,
    replaces: bool = False,
    follows: Callable[[], None] = lambda: None,
) -> int:
    """Fork, and return the child's exit code; if a signal killed it, die by the same signal.

    A child that exited unexpectedly after it had started to work is replaced if `replaces` is set;
    not if it was killed for lack of memory, which the kubelet or operator must see.

    Args:
        child: the child's main function; returns its exit code, and writes to `Ends.alive` once it
            works.
        silence: seconds without a byte on `Ends.alive`, after the first one, until it is killed.
        replaces: whether a dead child is replaced.
        follows: called before each replacement.
    """
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    parent = _Parent(os.dup(2), silence)
    deaths, pause = 0, 0.0
    while True:
        began, short = time.monotonic(), _out_of_memory()
        end = parent.follow(child, pause)
        is_last = not (replaces and end.was_at_work) or _out_of_memory() > short
        if is_last or parent.is_told:
            return end.repeat()
        deaths = 1 if time.monotonic() - began > _HEALTHY_SECONDS else deaths + 1
        parent.note(f"the runner {end}, and is started anew")
        follows()
        is_quick = end.code in _ON_PURPOSE or deaths == 1
        pause = 0.0 if is_quick else backoff.pause(deaths - 1, _FIRST_PAUSE, _LONGEST_PAUSE)


class _End(NamedTuple):
    """The end of a child."""

    code: int
    """A negative number is the signal that killed it."""
    was_at_work: bool

    def __str__(self) -> str:
        return f"died of signal {-self.code}" if self.code < 0 else f"ended with code {self.code}"

    def repeat(self) -> int:
        """End this process in the same way."""
        if self.code >= 0:
            return self.code
        with suppress(OSError):
            signal.signal(-self.code, signal.SIG_DFL)
        os.kill(os.getpid(), -self.code)
        return 128 - self.code  # for pid 1 of a container, which its own signals do not kill


class _Parent:
    """Handles the signals of this process.

    Args:
        log: file descriptor.
    """

    def __init__(self, log: int, silence: float) -> None:
        self._log, self._silence = log, silence
        self._pid = 0
        """The child's pid; 0: no child."""
        self.is_told = False
        """Whether it was told to stop."""
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in _STOPS:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def follow(self, child: Callable[[Ends], int], pause: float) -> _End:
        """Run one child to its end."""
        said, say = os.pipe()
        echo, repeat = os.pipe()
        alive, live = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for end in (said, echo, repeat, alive, live):
            os.set_blocking(end, False)
        me = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        pid = os.fork()
        if pid == 0:
            self._leave()
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != me:
                os._exit(1)
            os.dup2(say, 1)
            os.dup2(say, 2)
            for end in (said, say, repeat, alive):
                os.close(end)
            code = 1
            try:
                code = child(Ends(_high(self._log), _high(echo), _high(live), pause))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)  # Threads of the model's code must not keep a drained runner alive.
        self._pid = pid
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        for end in (say, echo, live):
            os.close(end)
        if self.is_told:  # since the last one ended
            self._pass_on(signal.SIGTERM, None)
        try:
            watch = _Watch(pid, said, repeat, alive, self._log, self._woken, self._silence)
            return watch.until_the_end()
        finally:
            self._pid = 0
            for end in (said, repeat, alive):
                os.close(end)

    def _leave(self) -> None:
        """In the child: reset the parent's signal handlers."""
        signal.set_wakeup_fd(-1)
        for number in (*_STOPS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    def note(self, text: str) -> None:
        _note(self._log, text)

    def _pass_on(self, number: int, _frame: object) -> None:
        self.is_told = True
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)


class _Watch:
    def __init__(
        self,
        pid: int,
        said: int,
        repeat: int,
        alive: int,
        log: int,
        woken: int,
        silence: float,
    ) -> None:
        self._pid, self._said, self._repeat, self._alive = pid, said, repeat, alive
        self._log, self._woken, self._silence = log, woken, silence
        self._heard: float | None = None
        self._is_mute = False
        """Whether it closed its end of the pipe: then its silence means nothing."""
        self._is_silent = False

    def until_the_end(self) -> _End:
        poll = select.poll()
        for end in (self._said, self._alive, self._woken):
            poll.register(end, select.POLLIN)
        status = None
        while status is None:
            before = time.monotonic()
            events = dict(poll.poll(_TURN * 1000))
            if self._woken in events:
                _drain(self._woken)
            self._carry()
            for end in (self._said, self._alive):
                if events.get(end, 0) & select.POLLHUP:
                    poll.unregister(end)
                    if end == self._alive:
                        self._is_mute = True
            self._listen(time.monotonic() - before)
            status = self._reap()
        self._end_the_rest()
        self._carry()
        was_at_work = self._heard is not None or bool(_drain(self._alive))
        code = RunnerExit.HUNG if self._is_silent else os.waitstatus_to_exitcode(status)
        return _End(code, was_at_work)

    def _carry(self) -> None:
        """Copy output to the runner first, then to the log: output that has left the pipe is then
        known to the runner."""
        while size := min(_unread(self._said), _CHUNK):
            repeated = _libc.tee(self._said, self._repeat, size, _SPLICE_F_NONBLOCK)
            with suppress(OSError):
                data = os.read(self._said, repeated if repeated > 0 else size)
                while data:
                    data = data[os.write(self._log, data) :]

    def _listen(self, turn: float) -> None:
        """Kill a child that was silent for too long: C code holds the GIL."""
        now = time.monotonic()
        if _drain(self._alive):
            self._heard = now
        # This process or the child was suspended (SIGSTOP).
        is_frozen = self._is_mute or turn > 2 * _TURN or _state(self._pid) == "T"
        if is_frozen and self._heard is not None:
            self._heard = now
        if self._heard is not None and now - self._heard > self._silence and not self._is_silent:
            self._is_silent = True
            _note(self._log, f"no sign of life for {self._silence:g} s: ending the runner")
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGABRT)  # faulthandler shows where it was
        elif self._is_silent:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _reap(self) -> int | None:
        """The child's wait status, None while it lives."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == self._pid:
                    return status
                if pid == 0:
                    return None
        return None

    def _end_the_rest(self) -> None:
        """Kill processes that the child has left, such as daemons; they are our children now."""
        with suppress(ChildProcessError):
            while True:
                for pid in _children():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
                time.sleep(0.01)


def _high(descriptor: int) -> int:
    """Move a descriptor to a high number, which other code does not use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, max(3, min(soft, 1024) - 8))
    os.close(descriptor)
    return high


def _note(log: int, text: str) -> None:
    with suppress(OSError):
        os.write(log, f"inference_runner: {text}\n".encode())


def _drain(descriptor: int) -> bytes:
    """Read all available bytes."""
    with suppress(OSError):
        return os.read(descriptor, _CHUNK)
    return b""


def _out_of_memory() -> int:
    """How many processes the kernel has killed here for want of memory, by cgroup v2 or v1."""
    for name in ("memory.events", "memory/memory.oom_control"):
        with suppress(OSError, ValueError):
            lines = Path("/sys/fs/cgroup", name).read_text().splitlines()
            counts = dict(line.split() for line in lines)
            return int(counts.get("oom_kill", 0))
    return 0


def _unread(descriptor: int) -> int:
    """Bytes in a pipe."""
    count = array.array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def _stat(pid: int | str) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return ["", "0"]


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _children() -> list[int]:
    me = str(os.getpid())
    return [
        int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _stat(folder.name)[1] == me
    ]
