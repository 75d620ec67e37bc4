"""Output of the model's code becomes logs of the predictions that it runs.

Python's streams are replaced: writes go to the process' log and to the runs. File descriptors 1 and
2 are a pipe to the parent (`__main__`), which writes the output of C code and child processes to
the log, and sends it back to this process.
"""

from __future__ import annotations

import codecs
import fcntl
import io
import logging
import os
import sys
import termios
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from inference_runner.ends import Ends
from inference_runner.runs import Run

IDLE = 0.02
"""If more seconds passed between two calls, output from in between is read and dropped first."""
_NONE = bytes(4)
CATCH_UP = 0.1
"""Seconds that a run's end waits for output printed before it."""


class Capture:
    """Does nothing until it is installed.

    `runs` are the current runs of the model's code. Output of any thread or child process goes to
    the logs of each of them.
    """

    def __init__(self) -> None:
        self.runs: Sequence[Run] = ()
        self._ends: Ends | None = None
        self._left = 0.0
        self._file: tuple[int, int] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._reading = threading.Lock()
        self._streams: tuple[TextIO, TextIO] | None = None

    def install(self, ends: Ends) -> None:
        self._ends, self._file = ends, _file(ends.log)
        self._streams = self._stream(1), self._stream(2)
        self._put_streams()
        logging.getLogger().addHandler(_Records(self))

    def begin(self, runs: Sequence[Run]) -> None:
        """The model's code starts with these runs."""
        if self._ends is not None:
            if time.monotonic() - self._left > IDLE:  # output in between belongs to no run
                self.catch_up()
            self._put_streams()
        self.runs = runs

    def finish(self) -> bool:
        """The model's code has returned. Returns whether the file descriptors are intact."""
        is_whole = True
        if self._ends is not None:
            is_whole = _file(self._ends.log) == self._file
            if not is_whole:
                with suppress(OSError):  # to the parent: it writes to the log too
                    os.dup2(2, self._ends.log, inheritable=False)
            end = time.monotonic() + CATCH_UP
            while _unread(1) and time.monotonic() < end:
                time.sleep(0.001)
            self.catch_up()
        self.runs, self._left = (), time.monotonic()
        return is_whole

    def catch_up(self) -> None:
        """Read the output of C code and child processes."""
        if self._ends is None or not _unread(self._ends.echo):
            return
        with self._reading, suppress(OSError):
            while data := os.read(self._ends.echo, 65536):
                self.print(self._decoder.decode(data))

    def print(self, text: str) -> None:
        for run in self.runs:
            run.print(text)

    def write(self, data: bytes) -> None:
        """From Python's streams."""
        assert self._ends is not None
        _write(self._ends.log, data)
        if self.runs:
            self.print(data.decode("utf-8", "replace"))

    def forget(self) -> None:
        """Called in a forked child, whose output reaches the runner through the pipe."""
        self.runs = ()
        if self._ends is not None:
            self._ends = None

    def _stream(self, descriptor: int) -> TextIO:
        return io.TextIOWrapper(
            _Raw(self, descriptor),  # type: ignore[type-var]  # as `python -u` does
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )

    def _put_streams(self) -> None:
        """The model's code may have closed or replaced them."""
        assert self._streams is not None
        if any(stream.closed for stream in self._streams):
            self._streams = self._stream(1), self._stream(2)
        if (sys.stdout, sys.stderr) != self._streams:
            sys.stdout, sys.stderr = self._streams


class _Raw(io.RawIOBase):
    def __init__(self, capture: Capture, descriptor: int) -> None:
        self._capture, self._descriptor = capture, descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: object) -> int:
        written = bytes(data)  # type: ignore[call-overload]
        if self._capture._ends is None:
            _write(self._descriptor, written)
        else:
            self._capture.write(written)
        return len(written)


class _Records(logging.Handler):
    """Captures records of other loggers as text."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        if self._capture.runs:
            with suppress(Exception):
                self._capture.print(f"{record.levelname}: {self.format(record)}\n")


def _write(descriptor: int, data: bytes) -> None:
    """Write; errors are ignored."""
    with suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


def _file(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of the open file."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unread(descriptor: int) -> int:
    """Bytes in a pipe."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, _NONE), sys.byteorder)
    except OSError:
        return 0
