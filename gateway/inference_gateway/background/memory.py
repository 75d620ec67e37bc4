"""Tuning of the garbage collector, and the return of freed memory to the system."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

from inference_gateway.background.periodic import Periodic

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""malloc.h"""
_YOUNG = (700, 10)
"""Python's defaults for the thresholds of the two young generations."""
_USUAL = 10
"""Python's default for collections of the middle generation before a full collection."""
_MOST = 100
"""The same with many connections: 700,000 new objects before a full collection."""
_FEW_CONNECTIONS = 200
"""Up to here a full collection takes some milliseconds."""
_GROWN_BYTES = 10_000_000
"""Growth of the process since the last trim at which memory is trimmed again."""
_PAUSE_SECONDS = 5.0


def return_freed_memory() -> None:
    """Make glibc return large freed blocks to the system.

    A password hash takes 19 MiB for a moment. By default glibc raises its threshold after the first
    one and keeps such blocks, one for each thread. For smaller blocks each thread would have its
    own arena, although only one thread runs at a time.
    """
    if (mallopt := _libc("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, 1_000_000)
        mallopt(_M_ARENA_MAX, 2)


def keep_for_good() -> None:
    """Exclude all present objects from full collections (gc.freeze), and make these rare: one stops
    all threads for half a microsecond an object, and 1,500 streams have 160,000 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG, _MOST)


class MemoryReclaim(Periodic):
    """Runs a full collection and returns freed memory after many connections have closed.

    Args:
        connections: returns the number of connections.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        super().__init__("garbage", _PAUSE_SECONDS)
        self._connections = connections
        self._trim = _libc("malloc_trim")
        self._usual = _resident()
        """Bytes of the process when freed memory was last returned."""

    def step(self) -> None:
        if self._connections() > _FEW_CONNECTIONS:
            return
        _, _, collections = gc.get_count()
        if collections < _USUAL and _resident() < self._usual + _GROWN_BYTES:
            return
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        self._usual = _resident()


def _resident() -> int:
    """Resident memory of this process, bytes; 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _libc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None)
