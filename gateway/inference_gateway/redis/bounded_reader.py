"""A reader of Redis replies that limits the number of their parts.

A runner may write an entry with millions of empty fields, which take a hundred bytes each here.
"""

from __future__ import annotations

from typing import Any

import hiredis
import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA

MAX_ENTRIES = 100_000
"""Entries of all streams in one read: eight lines each."""
_MAX_LINES = 2_000_000
"""Lines of one reply; a part has one or two."""

_SMALL = 1024
"""Replies up to this size are not counted."""
_feed, _gets = hiredis.Reader.feed, hiredis.Reader.gets


class TooManyParts(redis.RedisError):
    """The connection is closed, as the rest of the reply is not read."""


class BoundedReader(hiredis.Reader):
    """`gets` raises TooManyParts."""

    _lines = 0
    """Received lines of an incomplete reply."""

    def feed(self, data: Any, start: int = 0, length: int | None = None) -> None:
        if length is None:
            length = len(data) - start
        if length > _SMALL or self._lines:
            self._lines += data.count(b"\r\n", start, start + length)
        _feed(self, data, start, length)

    def gets(self, should_decode: bool = True) -> Any:
        found = _gets(self, should_decode)
        if self._lines:
            if found is not NOT_ENOUGH_DATA:
                self._lines = 0
            elif self._lines > _MAX_LINES:
                raise TooManyParts(f"an answer of Redis has more than {_MAX_LINES} lines")
        return found
