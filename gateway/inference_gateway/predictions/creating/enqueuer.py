"""Puts stored predictions on their queues."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_contract.predictions import Job
from inference_gateway.lifecycle.job_queue import JobQueue, put, to_job
from inference_gateway.lifecycle.prediction import NewRow
from inference_gateway.predictions import metrics
from inference_gateway.predictions.creating.insert import LARGE_BYTES
from inference_gateway.redis.replies import Pipe, is_keys_own

log = logging.getLogger(__name__)

_AWAY_SECONDS = 1.0
"""Pause after a failure of Redis: the relay enqueues the predictions meanwhile."""
_ASKING_SECONDS = 5.0
"""Timeout of the first attempt after the pause; other batches do not wait for it."""
_PATIENCE_SECONDS = 2.0


class Enqueuer:
    """For one event loop.

    Args:
        client, client_async: of the same server.
        threads: for long work.
    """

    def __init__(
        self, client: redis.Redis, client_async: redis.asyncio.Redis, threads: Executor
    ) -> None:
        self._redis = _prompt(client)
        self._jobs = JobQueue(self._redis)
        self._redis_async = client_async
        self._threads = threads
        self._pipes: list[Pipe] = []
        """Idle connections."""
        self._away_until = 0.0
        """End of the pause; 0 if the last call succeeded."""

    async def close(self) -> None:
        for pipe in self._pipes:
            await pipe.close()
        self._redis.close()

    async def enqueue(self, model: str, rows: Sequence[NewRow]) -> None:
        """Enqueue committed rows that are not held. Errors of Redis are ignored: the relay finds
        the rows."""
        now = time.monotonic()
        if now < self._away_until:
            metrics.NOT_ENQUEUED.inc(len(rows))
            return
        if self._away_until:
            self._away_until = now + _ASKING_SECONDS
        ready = [row for row in rows if not row["held"]]
        is_large = sum(row["input_bytes"] for row in ready) > LARGE_BYTES
        try:
            if ready:
                await self._put(model, [to_job(row) for row in ready], is_large=is_large)
            self._away_until = 0.0
        except redis.RedisError as error:
            # An error of the model's own key, which its runners may have damaged, causes no pause.
            away = 0.0 if is_keys_own(error) else time.monotonic() + _AWAY_SECONDS
            self._away_until = away
            metrics.NOT_ENQUEUED.inc(len(rows))
            log.warning("redis takes no job of %s, the relay enqueues later: %s", model, error)

    async def _put(self, model: str, jobs: Sequence[Job], *, is_large: bool) -> None:
        if not is_large and self._jobs.has_rung(model):
            try:
                await self._ask(put(model, jobs))
                return
            except redis.exceptions.NoScriptError:
                pass
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._jobs.enqueue, model, jobs)

    async def _ask(self, commands: Sequence[tuple[object, ...]]) -> None:
        pipe = self._pipes.pop() if self._pipes else Pipe(self._redis_async, _PATIENCE_SECONDS)
        try:
            await pipe.ask(commands)
        finally:
            self._pipes.append(pipe)


def _prompt(client: redis.Redis) -> redis.Redis:
    """A client of the same server without backoff: a stored prediction may be enqueued later.

    It retries once, as the first attempt may use a connection that a restart has closed.
    """
    pool = client.connection_pool
    timeout = _PATIENCE_SECONDS
    options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 1), "socket_timeout": timeout}
    return redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options)
    )
