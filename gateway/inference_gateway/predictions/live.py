"""Reads predictions' own streams: the output as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
import redis.asyncio
from redis.exceptions import RedisError

from inference_contract import queues, values
from inference_contract.predictions import EventType
from inference_gateway import streamed
from inference_gateway.bounded_reader import TooManyParts
from inference_gateway.predictions.endings import Events
from inference_gateway.predictions.schemas import Row
from inference_gateway.predictions.sse import HEARTBEAT, Position, StreamReader
from inference_gateway.predictions.waiters import Ended, StreamEntry, Watcher

_COUNTS = (8, 64)
"""Entries that are asked for at once, least and most: of one, a runner decides how large it is."""
_PAGE_BYTES = 65_536
"""What one reader may hold: beyond it is thrown away, and read again when that is sent."""
_AT_ONCE = 2
"""Pages that are in memory whole."""
_REDIS_PAUSE_SECONDS = 1.0


Finish = Callable[[Events], AsyncGenerator[bytes, None]]


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
                if size > _PAGE_BYTES:
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


async def follow(
    pages: Pages,
    row: Row,
    finish: Finish,
    watcher: Watcher,
    has: Position | None,
    heartbeat_seconds: float,
) -> AsyncIterator[bytes]:
    """The events of one prediction until its end, for one reader.

    Args:
        finish: what is made of the row with its output and logs.
        watcher: registered before `row` was read, and resolved if that has ended.
        has: what the reader has already.
    """
    reader = StreamReader(has, row["attempt"])
    while True:
        # Before the entries are read: then none of those that came before the end is missed.
        has_ended = watcher.end.done()
        end = watcher.end.result() if has_ended else None
        if has_ended and end is None:
            return  # The gateway stops, or nobody reads any more.
        fresh = watcher.take()
        if fresh is None or has_ended:
            async for chunk in _read(pages, reader, watcher):
                yield chunk
        elif chunk := b"".join(map(reader.feed, fresh)):
            yield chunk
        if end is not None:
            async for chunk in _end(reader, row, end, finish):
                yield chunk
        if has_ended or reader.is_done:
            return
        if not await watcher.news(heartbeat_seconds):
            yield HEARTBEAT


async def _end(reader: StreamReader, row: Row, end: Ended, finish: Finish) -> AsyncIterator[bytes]:
    """What is missing, and the end itself."""
    if not end.is_whole:
        async with aclosing(finish(reader.finish)) as pieces:
            async for piece in pieces:
                yield piece
    elif chunk := b"".join(reader.finish({**row, **end.columns})):
        yield chunk


async def _read(pages: Pages, reader: StreamReader, watcher: Watcher) -> AsyncIterator[bytes]:
    """What the stream holds beyond what the reader has."""
    stream = queues.stream_key(watcher.key, watcher.prediction_id)
    try:
        async for entry in pages.entries(stream, after=reader.position):
            is_large = len(entry.data) > _PAGE_BYTES
            chunk = await asyncio.to_thread(reader.feed, entry) if is_large else reader.feed(entry)
            if chunk:
                yield chunk
    except (RedisError, OSError):
        watcher.lose()
        if not watcher.end.done():
            await asyncio.sleep(_REDIS_PAUSE_SECONDS)
