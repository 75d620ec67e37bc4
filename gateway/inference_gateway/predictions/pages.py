"""Reads predictions' own streams: the output as it came so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import redis.asyncio

from inference_contract import queues, values
from inference_contract.predictions import EventType
from inference_gateway.lifecycle import streamed
from inference_gateway.lifecycle.wire import Row
from inference_gateway.predictions.waiting.waiters import StreamEntry
from inference_gateway.redis.bounded_reader import TooManyParts

_COUNTS = (8, 64)
"""Entries that are asked for at once, least and most: of one, a runner decides how large it is."""
PAGE_BYTES = 65_536
"""What one reader may hold: beyond it is thrown away, and read again when that is sent."""
_AT_ONCE = 2
"""Pages that are in memory whole."""


class Pages:
    """Reads predictions' own streams, for all who read one. For one event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def entries(self, stream: str, after: str = "0-0") -> AsyncIterator[StreamEntry]:
        """What the stream holds beyond an id. Raises RedisError."""
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
                await self._redis.unlink(stream)  # Its readers would try again and again.
                raise
            page, size = [], 0
            for entry_id, fields in found:
                page.append(StreamEntry(entry_id, fields.get(b"d", b"{}")))
                size += len(page[-1].data)
                if size > PAGE_BYTES:
                    break
            return page, len(found) == count or len(page) < len(found)


async def partial_output(pages: Pages, row: Row, *, is_text: bool) -> Any:
    """What the current attempt has said so far, None if nothing, if its beginning is lost, or if it
    is more than an output may be.

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
        except (ValueError, TypeError, KeyError):  # It is no entry of ours: a runner may write any.
            break
    if not parts:
        return None
    return "".join(parts) if is_text and all(isinstance(p, str) for p in parts) else parts
