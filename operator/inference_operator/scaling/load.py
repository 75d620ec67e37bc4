"""The load of all models, read from Redis in one round trip a tick."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import hiredis

from inference_contract import queues
from inference_operator.redis.connection import Command, RedisConnection, RedisUnavailable


class Load(NamedTuple):
    queued: int
    in_flight: int
    held: int = 0
    """Predictions that wait in PostgreSQL for space on the queue."""

    @property
    def waiting(self) -> int:
        return self.queued + self.held

    def wanted(self, target: int) -> int:
        """Waiting predictions that count for scaling, if each replica carries `target`.

        A replica needs a job, and only jobs on the queue can be claimed. So at most as many
        replicas count as there are jobs, queued or in flight; at least one, for a job to come.
        """
        jobs = self.queued + self.in_flight
        return min(self.waiting, max(jobs, 1) * target - self.in_flight)


class Loads:
    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis
        self._sign_at = 0.0

    def read(self, model_ids: Iterable[str]) -> dict[str, Load]:
        """Waiting and running predictions of each model. Also writes the key that tells that an
        operator is active.

        A model whose keys have wrong types is left out: its runners may write them, and other
        models must not be affected.

        Raises:
            RedisUnavailable: no model's load could be read.
        """
        ids = list(model_ids)
        commands: list[Command] = []
        for key in map(queues.model_key, ids):
            commands += [("LLEN", queues.queue_key(key)), ("ZCARD", queues.in_flight_key(key))]
        self._sign()
        if not commands:
            return {}
        *answers, told = self._redis.tell([*commands, ("HGETALL", queues.HELD)])
        held = _counts(told)
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError) and not str(answer).startswith("WRONGTYPE"):
                raise RedisUnavailable(str(answer))
        pairs = zip(ids, answers[::2], answers[1::2], strict=True)
        return {
            model_id: Load(queued, in_flight, held.get(queues.model_key(model_id), 0))
            for model_id, queued, in_flight in pairs
            if isinstance(queued, int) and isinstance(in_flight, int)
        }

    def _sign(self) -> None:
        """Write the key that tells that an operator is active. Errors are ignored."""
        if time.monotonic() >= self._sign_at:
            with suppress(RedisUnavailable):
                sign = ("SET", queues.OPERATOR, "1", "EX", str(queues.OPERATOR_SECONDS))
                self._redis.tell([sign])
                self._sign_at = time.monotonic() + queues.OPERATOR_SECONDS / 6

    def close(self) -> None:
        self._redis.close()


def _counts(told: object) -> dict[str, int]:
    """Counts by model key; empty if the reply is not a hash of counts."""
    if not isinstance(told, list):
        return {}
    with suppress(ValueError):
        return {key.decode(): int(n) for key, n in zip(told[::2], told[1::2], strict=True)}
    return {}
