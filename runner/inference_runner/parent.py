"""The parent of a runner: see `__main__`. Standard library only, so that it costs little memory.

It needs none of the child's locks: what C code prints, holding Python's lock or dying of it, is in
the log all the same, and a child whose threads do not get to run is ended.
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

from inference_contract.pods import RunnerExit
from inference_runner.ends import Ends

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SPLICE_F_NONBLOCK = 2
_PIPE_BYTES = 1 << 20
"""So much can be printed before the printer waits for us."""
_CHUNK = 1 << 16
_TURN = 1.0
"""Seconds between two looks at the child, at most."""
_libc = ctypes.CDLL(None, use_errno=True)


def run(child: Callable[[Ends], int], silence: float) -> int:
    """Fork, and return the child's exit code; die of the signal that it died of.

    Args:
        child: what the child does; returns its exit code.
        silence: seconds without a sign of life after which the child is ended, once it gave one.
    """
    said, say = os.pipe()
    echo, repeat = os.pipe()
    alive, live = os.pipe()
    with suppress(OSError):
        fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    for end in (said, echo, repeat, alive, live):
        os.set_blocking(end, False)
    log = os.dup(2)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != me:
            os._exit(1)
        os.dup2(say, 1)
        os.dup2(say, 2)
        for end in (said, say, repeat, alive):
            os.close(end)
        code = 1
        try:
            code = child(Ends(_high(log), _high(echo), _high(live)))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # Threads of the model's code must not keep a drained runner alive.
    for end in (say, echo, live):
        os.close(end)
    try:
        return _Watch(pid, said, repeat, alive, log, silence).until_the_end()
    finally:
        for end in (said, repeat, alive, log):
            os.close(end)


class _Watch:
    def __init__(
        self, pid: int, said: int, repeat: int, alive: int, log: int, silence: float
    ) -> None:
        self._pid, self._said, self._repeat, self._alive = pid, said, repeat, alive
        self._log, self._silence = log, silence
        self._heard: float | None = None
        self._is_mute = False
        """It closed its end: nothing follows from its silence."""
        self._is_silent = False

    def until_the_end(self) -> int:
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        for end in (self._said, self._alive, woken):
            poll.register(end, select.POLLIN)
        status = None
        while status is None:
            before = time.monotonic()
            events = dict(poll.poll(_TURN * 1000))
            if woken in events:
                os.read(woken, _CHUNK)
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
        signal.set_wakeup_fd(-1)
        os.close(woken)
        os.close(wake)
        return self._as_the_child(status)

    def _pass_on(self, number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _carry(self) -> None:
        """To the runner first, which then knows all that is no longer in the pipe; to the log."""
        while size := min(_unread(self._said), _CHUNK):
            repeated = _libc.tee(self._said, self._repeat, size, _SPLICE_F_NONBLOCK)
            with suppress(OSError):
                data = os.read(self._said, repeated if repeated > 0 else size)
                while data:
                    data = data[os.write(self._log, data) :]

    def _listen(self, turn: float) -> None:
        """End a child that was silent too long: some C code keeps Python's lock."""
        now = time.monotonic()
        with suppress(OSError):
            if os.read(self._alive, _CHUNK):
                self._heard = now
        # Somebody stopped us, or it.
        is_frozen = self._is_mute or turn > 2 * _TURN or _state(self._pid) == "T"
        if is_frozen and self._heard is not None:
            self._heard = now
        if self._heard is not None and now - self._heard > self._silence and not self._is_silent:
            self._is_silent = True
            self._note(f"no sign of life for {self._silence:g} s: ending the runner")
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGABRT)  # faulthandler shows where it was
        elif self._is_silent:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _note(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._log, f"inference_runner: {text}\n".encode())

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
        """What the child has started and left, such as daemons, which are our children now."""
        with suppress(ChildProcessError):
            while True:
                for pid in _children():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
                time.sleep(0.01)

    def _as_the_child(self, status: int) -> int:
        if self._is_silent:
            return RunnerExit.HUNG
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        number = os.WTERMSIG(status)
        with suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + number  # as the first process of a container, which no signal ends


def _high(descriptor: int) -> int:
    """Under a number where no other code expects one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, max(3, min(soft, 1024) - 8))
    os.close(descriptor)
    return high


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
