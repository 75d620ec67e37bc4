"""When memory is looked through for garbage, and given back to the system."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

from inference_gateway.background.periodic import Repeated

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""malloc.h"""
_YOUNG = (700, 10)
"""Python's own: objects, and collections of the youngest."""
_USUAL = 10
"""Python's own: of the middle generation, before a full collection."""
_MOST = 100
"""The same while there are many connections: 700,000 more objects than before."""
_FEW_CONNECTIONS = 200
"""What they hold is looked through in some milliseconds."""
_GROWN_BYTES = 10_000_000
"""Of the process, since free memory was given back: it may be free again, here and there."""
_PAUSE_SECONDS = 5.0


def return_freed_memory() -> None:
    """Have glibc give large blocks back when they are freed.

    A password's hash takes 19 MiB for a moment. Left to itself glibc would raise its threshold
    after the first one and keep such blocks for good, one for each thread. Of smaller blocks each
    thread would keep an arena of its own, though one thread runs at a time.
    """
    if (mallopt := _libc("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, 1_000_000)
        mallopt(_M_ARENA_MAX, 2)


def keep_for_good() -> None:
    """What is there now stays, and full collections do not look at it. They become rare: one stops
    all threads for half a microsecond an object, and 1,500 streams are 160,000."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG, _MOST)


class Reclaiming(Repeated):
    """A full collection, and free memory given back, once those are gone who brought much.

    Args:
        connections: how many there are.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        super().__init__("garbage", _PAUSE_SECONDS)
        self._connections = connections
        self._trim = _libc("malloc_trim")
        self._usual = _resident()
        """Bytes of the process when free memory was last given back."""

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
    """Bytes of this process in memory; 0 where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _libc(name: str) -> Callable[..., int] | None:
    """A function of glibc's that others may not have."""
    return getattr(ctypes.CDLL(None), name, None)
