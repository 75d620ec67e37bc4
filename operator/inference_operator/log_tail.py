"""How many last lines of a failed runner's log a status shows."""

from __future__ import annotations

from collections.abc import Sequence

LINES = 20
MAX_BYTES = 64_000
"""Bytes at the end of a log that are read for them."""
_MAX_LINE = 2000


def shortened(lines: Sequence[str]) -> list[str]:
    return [line[:_MAX_LINE] for line in lines[-LINES:]]
