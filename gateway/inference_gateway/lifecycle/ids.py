"""Ids of predictions: UUIDv7 (RFC 9562), whose order is the order of creation.

A caller may choose an id (`PUT /v1/predictions/{id}`). It is stored as an idempotency key that no
header can contain; the row still has a generated id, as much code relies on its order.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from uuid import UUID

_POOL_BYTES = 4096
_DIGITS = 31
_CHOSEN = "\x1f"
"""First character of an idempotency key that is a chosen id; keys in headers are printable."""


class IdSource:
    """For one thread. Reads random bytes in bulk, as each call costs some microseconds."""

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
    """The smallest id of a prediction created at this moment or later."""
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


def key_of(chosen: UUID) -> str:
    """The idempotency key of a prediction whose id its caller chose."""
    return f"{_CHOSEN}{chosen}"


def chosen_by(idempotency_key: str | None) -> str | None:
    """The id that the caller chose, if the key is a chosen id."""
    if idempotency_key is not None and idempotency_key[0] == _CHOSEN:
        return idempotency_key[1:]
    return None
