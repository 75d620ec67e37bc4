"""Stores new predictions by batch writers, and tracks the callers that wait for the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import redis
import redis.asyncio
from sqlalchemy import Engine

from inference_gateway.lifecycle.prediction import NewRow, State
from inference_gateway.postgres import db
from inference_gateway.predictions import repository
from inference_gateway.predictions.creating.batch_writer import (
    BatchWriter,
    NewPrediction,
    unconfirmed,
)
from inference_gateway.predictions.creating.enqueuer import Enqueuer
from inference_gateway.predictions.creating.insert import LARGE_BYTES, InsertConnection
from inference_gateway.predictions.creating.queue_sizes import QueueSizes
from inference_gateway.settings import GatewaySettings

WRITERS = 2


class Storing:
    """For one event loop.

    Args:
        waiting: returns the number of callers that wait for ends of predictions.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        engine: Engine,
        redis_sync: redis.Redis,
        redis_async: redis.asyncio.Redis,
        sizes: QueueSizes,
        waiting: Callable[[], int],
    ) -> None:
        self._threads = ThreadPoolExecutor(2 * WRITERS + 2, "writer")
        self._enqueuer = Enqueuer(redis_sync, redis_async, self._threads)
        self.connections = [
            InsertConnection(
                lambda: db.connect_async(settings),
                lambda rows: repository.of_batch(engine, rows),
                self._threads,
            )
            for _ in range(WRITERS + 1)
        ]
        first, *others = self.connections
        self._writer = BatchWriter(others, self._enqueuer, sizes, waiting)
        # A batch of large inputs takes half a second: small ones have their own writer.
        self._writer_of_large = BatchWriter([first], self._enqueuer, sizes)
        self.waited_for: set[NewPrediction] = set()
        """Predictions whose callers wait for the commit."""

    def start(self) -> None:
        self._writer.start()
        self._writer_of_large.start()

    async def stop(self) -> None:
        await asyncio.gather(self._writer.stop(), self._writer_of_large.stop())
        await self._enqueuer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def put(self, new: NewPrediction) -> None:
        """Raises Unavailable."""
        (self._writer_of_large if new.size > LARGE_BYTES else self._writer).put(new)

    async def stored(
        self, new: NewPrediction, outcome: Awaitable[NewRow | State]
    ) -> NewRow | State:
        self.waited_for.add(new)
        try:
            return await outcome
        finally:
            self.waited_for.discard(new)

    def abandon(self) -> None:
        """Answer all callers that still wait for a commit with Unconfirmed."""
        for new in self.waited_for:
            if not new.future.done():
                new.future.set_exception(unconfirmed(new))
