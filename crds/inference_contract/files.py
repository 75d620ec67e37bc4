"""Files: the limit of open files, and reading files that other programs write."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from pathlib import Path


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard limit; returns it.

    The usual soft limit, 1,024, is meant for programs that call `select`. Each connection is a
    file. Child processes inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def make_room(count: int) -> None:
    """Make the kernel allocate this process's table of files for so many files at once.

    Otherwise the kernel doubles the table whenever it is full, and the thread that opens a file
    waits 10 to 25 ms until no other thread reads the old table (Linux' `expand_fdtable`).

    Raises:
        OSError: the count exceeds the limit.
    """
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, count - 1))


def read(path: Path, limit: int) -> bytes:
    """The content of a file that another program writes.

    Raises:
        OSError: it cannot be read, or is not a regular file: a pipe would block, a device has no
            end.
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
