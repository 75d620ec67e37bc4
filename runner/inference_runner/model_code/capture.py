"""Prints of the model's code become logs of the predictions that it works for.

Python's streams are ours: what is written to them goes to the process' log and to the runs. File
descriptors 1 and 2 are a pipe to the parent (`__main__`), which writes to the log what C code and
child processes print, and copies it to us.
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
"""Seconds between two calls after which it is asked what was printed between them."""
_NONE = bytes(4)
CATCH_UP = 0.1
"""Seconds that a run's end waits for what was printed before it."""


class Capture:
    """Does nothing until it is installed.

    `runs`: those that the model's code works for now; all that is printed meanwhile, by whatever
    thread or child, is theirs, each of them.
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
        """The model's code begins to work for these."""
        if self._ends is not None:
            if time.monotonic() - self._left > IDLE:  # what was printed meanwhile is nobody's
                self.catch_up()
            self._put_streams()
        self.runs = runs

    def finish(self) -> bool:
        """The model's code is back. Returns whether it has left us our file descriptors."""
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
        """Take in what C code and child processes have printed."""
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
        """In a forked child: what it prints reaches us through the pipe."""
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
    """Records of other loggers than ours, as text."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        if self._capture.runs:
            with suppress(Exception):
                self._capture.print(f"{record.levelname}: {self.format(record)}\n")


def _write(descriptor: int, data: bytes) -> None:
    """A log that cannot be written to is no reason to fail."""
    with suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


def _file(descriptor: int) -> tuple[int, int] | None:
    """Which file it is."""
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
