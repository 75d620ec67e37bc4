"""Puts stored predictions on their queues, and knows how long these are."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_contract import queues
from inference_gateway.errors import TooManyRequests
from inference_gateway.predictions import metrics
from inference_gateway.predictions.schemas import Row
from inference_gateway.queue import JobQueue, to_job
from inference_gateway.quotas.queued import Room
from inference_gateway.replies import is_keys_own

log = logging.getLogger(__name__)

_AWAY_SECONDS = 1.0
"""After a failure leave Redis alone so long: the relay enqueues what is left out."""
_ASKING_SECONDS = 5.0
"""Then one thread asks, for which it may need so long; the others go on storing meanwhile."""
_COUNT_EVERY = 1.0
"""Seconds that a count of a model's open predictions holds."""


@dataclass(slots=True)
class _Open:
    count: int
    at: float


class Enqueuer:
    """Safe to use from several threads.

    Args:
        room: is kept up to date as long as there is something to enqueue.
    """

    def __init__(self, client: redis.Redis, max_open: int, room: Room | None = None) -> None:
        self._redis = _prompt(client)
        self._jobs = JobQueue(self._redis)
        self._max_open = max_open
        self._room = room or Room()
        self._open: dict[str, _Open] = {}
        self._away_until = 0.0
        """0 if the last answer was one."""

    def close(self) -> None:
        self._redis.close()

    def check_open(self, model: str) -> None:
        """Raises TooManyRequests while the model has as many open predictions as it may."""
        known = self._open.get(model)
        if known is None or known.count < self._max_open:
            return
        if time.monotonic() - known.at < _COUNT_EVERY:
            raise TooManyRequests(
                f"{known.count} predictions of {model} wait or run, at most {self._max_open} may: "
                "try again later",
                headers={"Retry-After": "1"},
            )

    def enqueue(self, model: str, rows: Sequence[Row]) -> None:
        """Enqueue what is committed and not held back. Without Redis it does nothing: the relay
        finds the rows."""
        now = time.monotonic()
        if now < self._away_until:
            metrics.NOT_ENQUEUED.inc(len(rows))
            return
        if self._away_until:
            self._away_until = now + _ASKING_SECONDS
        try:
            ready = [row for row in rows if not row["held"]]
            if ready:
                self._jobs.enqueue(model, map(to_job, ready))
            self._count(model, len(rows), now)
            self._room.look(self._redis)
            self._away_until = 0.0
        except redis.RedisError as error:
            # Of a key of the model's, which its runners may have spoiled, no other model suffers.
            away = 0.0 if is_keys_own(error) else time.monotonic() + _AWAY_SECONDS
            self._away_until = away
            metrics.NOT_ENQUEUED.inc(len(rows))
            log.warning("redis takes no job of %s, the relay enqueues later: %s", model, error)

    def _count(self, model: str, added: int, now: float) -> None:
        known = self._open.get(model)
        if known is not None and now - known.at < _COUNT_EVERY:
            known.count += added
            return
        key = queues.model_key(model)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.llen(queues.queue_key(key))
            pipe.zcard(queues.in_flight_key(key))
            self._open[model] = _Open(sum(pipe.execute()), now)


def _prompt(client: redis.Redis) -> redis.Redis:
    """The same server, but without pauses: a stored prediction can do without Redis for a while.

    One more try, since the first may meet a connection that a restart has cut.
    """
    pool = client.connection_pool
    options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 1), "socket_timeout": 2}
    return redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options)
    )
