"""Reads predictions' own streams: the output so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import redis.asyncio

from inference_contract import queues, values
from inference_contract.predictions import EventType
from inference_gateway.lifecycle import streamed
from inference_gateway.lifecycle.prediction import Attempt
from inference_gateway.predictions.waiting.waiters import StreamEntry
from inference_gateway.redis.bounded_reader import TooManyParts

_COUNTS = (8, 64)
"""Entries in one read, minimum and maximum: runners decide how large an entry is."""
PAGE_BYTES = 65_536
"""Bytes that one reader may buffer; the rest is dropped and read again later."""
_AT_ONCE = 2
"""Pages that may be in memory at the same time."""


class Pages:
    """Reads predictions' own streams for all readers. For one event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def entries(self, stream: str, after: str = "0-0") -> AsyncIterator[StreamEntry]:
        """The entries after an id. Raises RedisError."""
        count, has_more = _COUNTS[0], True
        while has_more:
            page, has_more = await self._page(stream, after, count)
            count = min(2 * count, _COUNTS[1]) if len(page) == count else _COUNTS[0]
            for entry in page:
                yield entry
                after = entry.id.decode()

    async def _page(self, stream: str, after: str, count: int) -> tuple[list[StreamEntry], bool]:
        """Some entries, and whether there may be more."""
        async with self._turns:
            # redis-py's types do not know that the client returns bytes.
            try:
                found: Any = await self._redis.xrange(stream, min=f"({after}", count=count)
            except TooManyParts:
                await self._redis.unlink(stream)  # Otherwise its readers would retry forever.
                raise
            page, size = [], 0
            for entry_id, fields in found:
                page.append(StreamEntry(entry_id, fields.get(b"d", b"{}")))
                size += len(page[-1].data)
                if size > PAGE_BYTES:
                    break
            return page, len(found) == count or len(page) < len(found)


async def partial_output(pages: Pages, row: Attempt, *, is_text: bool) -> Any:
    """The output of the current attempt so far. None if there is none, if its beginning is lost, or
    if it is too large.

    Raises:
        RedisError
    """
    key = queues.stream_key(queues.model_key(row["model"]), str(row["id"]))
    parts = []
    number = size = 0
    async for entry in pages.entries(key, after=f"{row['attempt']}-0"):
        number += 1
        if entry.id != b"%d-%d" % (row["attempt"], number):
            break
        size += len(entry.data)
        if size > streamed.MAX_BYTES:
            return None
        try:
            event = orjson.loads(entry.data)
            if event["type"] == EventType.OUTPUT:
                values.check(event["output"])
                parts.append(event["output"])
        except (ValueError, TypeError, KeyError):  # Invalid: runners may write anything.
            break
    if not parts:
        return None
    return "".join(parts) if is_text and all(isinstance(p, str) for p in parts) else parts
