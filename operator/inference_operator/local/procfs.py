"""Telling one Linux process from another that has its number later.

A process is known by its pid, the tick it started at, and the boot that the ticks count from.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def _start_ticks(pid: int) -> int | None:
    """None if there is no such process, or only its zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # The name before it may hold anything.
    return None if fields[0] in "ZX" else int(fields[19])


def identity(pid: int) -> str | None:
    """Differs for any two processes that ever had this pid; None if it is not running."""
    ticks = _start_ticks(pid)
    if ticks is None:
        return None
    return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()}:{ticks}"


def started(pid: int) -> float | None:
    """When it started, in seconds of the monotonic clock; None if it is not running."""
    ticks = _start_ticks(pid)
    if ticks is None:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS
    return time.monotonic() - age


def children(pid: int) -> list[int]:
    """The processes whose parent it is, zombies among them."""
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
