"""Ids of predictions: UUIDv7 (RFC 9562), whose order is the order of creation."""

from __future__ import annotations

import os
import time
from datetime import datetime
from uuid import UUID

_POOL_BYTES = 4096
_DIGITS = 31


class IdSource:
    """For one thread. Asks the system for randomness in bulk: each call costs some microseconds."""

    def __init__(self) -> None:
        self._pool = ""
        self._used = 0

    def new(self) -> tuple[str, str]:
        """A prediction's id, and the first token of its fence (16 hex digits)."""
        milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
        moment = f"{milliseconds:012x}"
        # Method 3 of the RFC: the 12 bits after the version hold the fraction of the millisecond,
        # so that ids of one gateway are in order within a millisecond too.
        fraction = nanoseconds * 4096 // 1_000_000
        random = self._random()
        return (
            f"{moment[:8]}-{moment[8:]}-7{fraction:03x}-8{random[:3]}-{random[3:15]}",
            random[15:],
        )

    def _random(self) -> str:
        if self._used + _DIGITS > len(self._pool):
            self._pool, self._used = os.urandom(_POOL_BYTES).hex(), 0
        self._used += _DIGITS
        return self._pool[self._used - _DIGITS : self._used]


def first_id(moment: datetime) -> UUID:
    """The least id that a prediction created at this moment, or later, can have."""
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)
