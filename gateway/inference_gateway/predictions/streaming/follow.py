"""The events of one prediction for one reader, from its stream and from its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from redis.exceptions import RedisError

from inference_contract import queues
from inference_gateway.lifecycle.prediction import State
from inference_gateway.predictions.pages import PAGE_BYTES, Pages
from inference_gateway.predictions.streaming.endings import Events
from inference_gateway.predictions.streaming.sse import HEARTBEAT, Position, StreamReader
from inference_gateway.predictions.waiting.waiters import Ended, StreamWaiter

_REDIS_PAUSE_SECONDS = 1.0


Finish = Callable[[Events], AsyncGenerator[bytes, None]]


async def follow(
    pages: Pages,
    row: State,
    finish: Finish,
    waiter: StreamWaiter,
    has: Position | None,
    heartbeat_seconds: float,
) -> AsyncIterator[bytes]:
    """The events of one prediction until its end, for one reader.

    Args:
        finish: makes the last events from the row with its output and logs.
        waiter: registered before `row` was read, and resolved if the row has ended.
        has: the position of the reader.
    """
    reader = StreamReader(has, row["attempt"])
    while True:
        # Before the entries are read, so that none from before the end is missed.
        has_ended = waiter.end.done()
        end = waiter.end.result() if has_ended else None
        if has_ended and end is None:
            return  # The gateway stops, or the client has disconnected.
        fresh = waiter.take()
        if fresh is None or has_ended:
            async for chunk in _read(pages, reader, waiter):
                yield chunk
        elif chunk := b"".join(map(reader.feed, fresh)):
            yield chunk
        if end is not None:
            async for chunk in _end(reader, row, end, finish):
                yield chunk
        if has_ended or reader.is_done:
            return
        if not await waiter.news(heartbeat_seconds):
            yield HEARTBEAT


async def _end(
    reader: StreamReader, row: State, end: Ended, finish: Finish
) -> AsyncIterator[bytes]:
    """The missing events, and the end."""
    if not end.is_whole:
        async with aclosing(finish(reader.finish)) as pieces:
            async for piece in pieces:
                yield piece
    elif chunk := b"".join(reader.finish(end.of(row))):
        yield chunk


async def _read(pages: Pages, reader: StreamReader, waiter: StreamWaiter) -> AsyncIterator[bytes]:
    """The events of the stream after the reader's position."""
    stream = queues.stream_key(waiter.key, waiter.prediction_id)
    try:
        async for entry in pages.entries(stream, after=reader.position):
            is_large = len(entry.data) > PAGE_BYTES
            chunk = await asyncio.to_thread(reader.feed, entry) if is_large else reader.feed(entry)
            if chunk:
                yield chunk
    except (RedisError, OSError):
        waiter.lose()
        if not waiter.end.done():
            await asyncio.sleep(_REDIS_PAUSE_SECONDS)
