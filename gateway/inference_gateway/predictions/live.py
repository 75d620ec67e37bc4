"""Reads predictions' own streams: the output as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import redis.asyncio
from redis.exceptions import RedisError

from inference_contract import queues
from inference_contract.predictions import EventType
from inference_gateway.predictions.schemas import Row
from inference_gateway.predictions.sse import HEARTBEAT, Position, StreamReader
from inference_gateway.predictions.waiters import Ended, StreamEntry, Watcher

_PAGE = 200
_REDIS_PAUSE_SECONDS = 1.0


async def entries(
    client: redis.asyncio.Redis, stream: str, after: str = "0-0"
) -> AsyncIterator[StreamEntry]:
    """What the stream holds beyond an id, page by page. Raises RedisError."""
    while True:
        # redis-py's types do not know that the client returns bytes.
        page: Any = await client.xrange(stream, min=f"({after}", count=_PAGE)
        for entry_id, fields in page:
            yield StreamEntry(entry_id, fields.get(b"d", b"{}"))
        if len(page) < _PAGE:
            return
        after = page[-1][0].decode()


async def partial_output(client: redis.asyncio.Redis, row: Row, *, is_text: bool) -> Any:
    """What the current attempt has said so far, None if nothing, or if its beginning is lost.

    Raises:
        RedisError
    """
    key = queues.stream_key(queues.model_key(row["model"]), str(row["id"]))
    parts = []
    number = 0
    async for entry in entries(client, key, after=f"{row['attempt']}-0"):
        number += 1
        if entry.id != b"%d-%d" % (row["attempt"], number):
            break
        event = orjson.loads(entry.data)
        if event.get("type") == EventType.OUTPUT:
            parts.append(event["output"])
    if not parts:
        return None
    return "".join(parts) if is_text and all(isinstance(p, str) for p in parts) else parts


async def follow(
    client: redis.asyncio.Redis,
    row: Row,
    watcher: Watcher,
    has: Position | None,
    heartbeat_seconds: float,
) -> AsyncIterator[bytes]:
    """The events of one prediction until its end, for one reader.

    Args:
        watcher: registered before `row` was read, and resolved if that has ended.
        has: what the reader has already.
    """
    reader = StreamReader(has, row["attempt"])
    while True:
        # Before the entries are read: then none of those that came before the end is missed.
        has_ended = watcher.end.done()
        fresh = watcher.take()
        if fresh is None or has_ended:
            async for chunk in _read(client, reader, watcher):
                yield chunk
        elif chunk := b"".join(map(reader.feed, fresh)):
            yield chunk
        if has_ended and (chunk := _finish(reader, row, watcher.end.result())):
            yield chunk
        if has_ended or reader.is_done:
            return
        if not await watcher.news(heartbeat_seconds):
            yield HEARTBEAT


async def _read(
    client: redis.asyncio.Redis, reader: StreamReader, watcher: Watcher
) -> AsyncIterator[bytes]:
    """What the stream holds beyond what the reader has."""
    stream = queues.stream_key(watcher.key, watcher.prediction_id)
    try:
        async for entry in entries(client, stream, after=reader.position):
            if chunk := reader.feed(entry):
                yield chunk
    except (RedisError, OSError):
        watcher.lose()
        if not watcher.end.done():
            await asyncio.sleep(_REDIS_PAUSE_SECONDS)


def _finish(reader: StreamReader, row: Row, end: Ended | None) -> bytes:
    """Nothing if the gateway stops: the reader comes again."""
    return b"" if end is None else reader.finish({**row, **end.columns})
