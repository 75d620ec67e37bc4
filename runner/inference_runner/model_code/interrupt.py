"""Stops the model's code from another thread, and protects our signal handlers.

It sends a signal to the main thread, whose handler raises. Unlike an exception set in a thread this
also interrupts waits (sleep, locks, sockets, child processes), and the handler can check whether
the code to stop is still running.
"""

from __future__ import annotations

import os
import signal
import threading

# `signal.getsignal` looks the handler up in an enum as well, which takes 20 times as long.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable
from typing import Any

SIGNAL = signal.SIGRTMAX - 3
"""An unused signal: libraries use SIGUSR1 and SIGALRM, glibc the first real-time signals."""

Handler = Callable[..., Any]


class Stopped(BaseException):
    """Raised in the model's code when its result is no longer wanted."""


class Interrupt:
    """Does nothing until it is installed, which only the main thread can do."""

    def __init__(self) -> None:
        self.installed = False
        self._current: object | None = None
        self._target: object | None = None
        self._handlers: dict[int, Handler] = {}

    def install(self, **handlers: Handler) -> None:
        """Args:
        handlers: by name of the signal; changes by the model's code are undone.
        """
        self._handlers = {SIGNAL: self._raise}
        self._handlers |= {signal.Signals[name]: handler for name, handler in handlers.items()}
        self.installed = True
        self.restore()

    def restore(self) -> None:
        """Restore our handlers after the model's code. On the main thread."""
        for number, handler in self._handlers.items():
            if getsignal(number) is not handler:
                signal.signal(number, handler)

    def guard_forks(self, forget: Callable[[], None]) -> None:
        """Make every forked child call `forget` and reset its signal handlers. Signals are blocked
        during the fork, as Python would lose them."""
        masks: list[set[Any]] = []

        def before() -> None:
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)))

        def in_parent() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

        def in_child() -> None:
            self.installed, self._current = False, None
            for number in self._handlers:
                signal.signal(number, signal.SIG_DFL)
            forget()
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

        os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)

    def enter(self, work: object) -> None:
        """From here until `leave`, `Stopped` may be raised once."""
        self._current = work

    def leave(self) -> None:
        self._current = None

    def request(self, work: object) -> None:
        """Raise `Stopped` in the main thread if `work` is still current."""
        self._target = work
        if self.installed and getsignal(SIGNAL) is self._handlers[SIGNAL]:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, SIGNAL)

    def _raise(self, *_: Any) -> None:
        work = self._current
        if work is not None and work is self._target:
            self._current = None
            raise Stopped
