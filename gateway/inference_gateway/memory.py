"""When memory is looked through for garbage, and given back to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

from inference_gateway.repeated import Repeated

_M_MMAP_THRESHOLD = -3
"""malloc.h"""
_YOUNG = (700, 10)
"""Python's own: objects, and collections of the youngest."""
_USUAL = 10
"""Python's own: of the middle generation, before a full collection."""
_MOST = 100
"""The same while there are many connections: 700,000 more objects than before."""
_FEW_CONNECTIONS = 200
"""What they hold is looked through in some milliseconds."""
_PAUSE_SECONDS = 5.0


def return_freed_memory() -> None:
    """Have glibc give large blocks back when they are freed.

    A password's hash takes 19 MiB for a moment. Left to itself glibc would raise its threshold
    after the first one and keep such blocks for good, one for each thread.
    """
    if (mallopt := _libc("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, 1_000_000)


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

    def step(self) -> None:
        _, _, collections = gc.get_count()
        if collections < _USUAL or self._connections() > _FEW_CONNECTIONS:
            return
        gc.collect()
        if self._trim is not None:
            self._trim(0)


def _libc(name: str) -> Callable[..., int] | None:
    """A function of glibc's that others may not have."""
    return getattr(ctypes.CDLL(None), name, None)
