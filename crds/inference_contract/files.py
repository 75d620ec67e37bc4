"""Files: how many a process may have open, and reading those that others write."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from pathlib import Path


def raise_limit() -> int:
    """Lift the soft limit of open files to the hard one; returns it.

    The usual soft limit, 1,024, is for programs that call `select`. Each connection is a file, and
    what a process starts inherits its limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def make_room(count: int) -> None:
    """Have the kernel make its table of this process's files large enough for so many, at once.

    It would double it whenever it is full, and have the thread that opens a file wait each time, 10
    to 25 ms, until no other thread reads the old one (Linux' `expand_fdtable`).

    Raises:
        OSError: it is more than the limit.
    """
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, count - 1))


def read(path: Path, limit: int) -> bytes:
    """The content of a file that somebody else writes.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would keep its reader waiting, a device
            has no end.
        ValueError: it has more than `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "is no file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return content
