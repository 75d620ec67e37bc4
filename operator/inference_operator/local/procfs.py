"""Identify Linux processes although pids are reused.

A process is identified by its pid, its start in clock ticks since boot, and the boot's id.
psutil would identify it by wall clock time, which is corrected now and then.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def _start_ticks(pid: int) -> int | None:
    """None if the process does not exist or is a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # The name before it may hold any character.
    return None if fields[0] in "ZX" else int(fields[19])


def identity(pid: int) -> str | None:
    """A string that differs for any two processes with this pid; None if it is not running."""
    ticks = _start_ticks(pid)
    if ticks is None:
        return None
    return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()}:{ticks}"


def started(pid: int) -> float | None:
    """When the process started, in seconds of the monotonic clock; None if it is not running."""
    ticks = _start_ticks(pid)
    if ticks is None:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS
    return time.monotonic() - age


def children(pid: int) -> list[int]:
    """The pids of its child processes, zombies included."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(folder.name))
    return found


def find(variable: str, value: str) -> int | None:
    """The oldest running process that was started with this environment variable."""
    marker = f"{variable}={value}".encode()
    found = []
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                pid = int(folder.name)
                if (ticks := _start_ticks(pid)) is not None:
                    found.append((ticks, pid))
    return min(found)[1] if found else None
