"""Reads answers of Redis, none of which has more parts than a server of ours asks for.

A runner may write an entry of millions of empty fields: some bytes each there, a hundred here.
"""

from __future__ import annotations

from typing import Any

import hiredis
import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA

MAX_ENTRIES = 100_000
"""That may be asked for at once, of all streams: eight lines each."""
_MAX_LINES = 2_000_000
"""Of one answer; a part has one or two."""

_SMALL = 1024
"""Bytes that are not counted: answers that come at once, which most do."""
_feed, _gets = hiredis.Reader.feed, hiredis.Reader.gets


class TooManyParts(redis.RedisError):
    """The connection is closed: nobody reads the rest."""


class BoundedReader(hiredis.Reader):
    """`gets` raises TooManyParts."""

    _lines = 0
    """That have come of an answer which is not whole."""

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
