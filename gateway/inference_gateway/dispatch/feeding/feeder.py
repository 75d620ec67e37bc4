"""Puts held predictions on their queues as Redis has space for their inputs.

Accounts, and the models of each account, are served fairly: the one with the fewest bytes in Redis
is next. A row is marked as not held only after its job is on the queue; after a crash in between
the job is enqueued again.
"""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import cast
from uuid import UUID

import redis
from sqlalchemy import Connection, Engine, text

from inference_contract import queues
from inference_gateway.dispatch import batches, metrics
from inference_gateway.dispatch.feeding.held import Held, Queued, Rotation, queued
from inference_gateway.lifecycle.job_queue import HANDED, JobQueue, to_job
from inference_gateway.lifecycle.prediction import Handed
from inference_gateway.postgres.tables import HELD
from inference_gateway.quotas.queued import fits, free
from inference_gateway.redis.replies import is_keys_own

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.25
_SHARE = 10
"""The pause is at least so many times the duration of the last round."""
_MOST_BYTES = 8_000_000
"""Bytes of inputs in one round, unless one input is larger: all are in memory."""
_COUNT_EVERY = 1.0
"""Seconds between two counts of all held predictions."""
LOCK = 7_203_441_905_128
"""Advisory lock of PostgreSQL: one process feeds at a time, so that two do not use the same space.
"""
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
_COUNT = text(f"SELECT model, count(*) FROM predictions WHERE {HELD} GROUP BY model")  # noqa: S608 - constants of ours
_RELEASE = text(f"""
WITH next AS MATERIALIZED (
  SELECT id FROM predictions WHERE id = ANY (CAST(:ids AS uuid[])) AND {HELD}
  ORDER BY id FOR UPDATE SKIP LOCKED)
UPDATE predictions p SET held = false FROM next WHERE p.id = next.id
RETURNING {HANDED}
""")  # noqa: S608


class Feeder:
    """Args:
    budget: bytes of inputs that an account may have in Redis; 0: no limit.
    """

    def __init__(self, engine: Engine, client: redis.Redis, *, budget: int) -> None:
        self._engine = engine
        self._redis = client
        self._queue = JobQueue(client)
        self._budget = budget or math.inf
        self._turns = Rotation()
        self._counted_at = -math.inf
        self._has_told = True
        """Whether Redis may have counts of held predictions."""

    def step(self) -> float:
        began = time.monotonic()
        with self._engine.begin() as connection:
            if not connection.execute(_TRY_LOCK, {"key": LOCK}).scalar_one():
                return _PAUSE_SECONDS
            chosen = self._choose(connection)
            if chosen:
                self._release(connection, chosen)
            counts = self._count(connection)
        if counts is not None:
            self._tell(counts)
        if sum(held.size for held in chosen) >= _MOST_BYTES:
            return 0.0  # there may be space for more
        return max(_PAUSE_SECONDS, (time.monotonic() - began) * _SHARE)

    def _choose(self, connection: Connection) -> list[Held]:
        """The predictions to release next."""
        held = self._turns.next(connection)
        if not held:
            return []
        there = queued(connection, held)
        return choose(held, there, budget=self._budget, room=free(self._redis))

    def _count(self, connection: Connection) -> Counter[str] | None:
        """Held predictions of each model; None if they were counted a moment ago."""
        if time.monotonic() < self._counted_at + _COUNT_EVERY:
            return None
        counts = Counter({str(model): n for model, n in connection.execute(_COUNT)})
        self._counted_at = time.monotonic()
        metrics.HELD.set(counts.total())
        return counts

    def _tell(self, held: Mapping[str, int]) -> None:
        """Write the counts to Redis, for the autoscaler. Errors of Redis are ignored."""
        if not held and not self._has_told:
            return
        with suppress(redis.RedisError), self._redis.pipeline() as pipe:
            pipe.delete(queues.HELD)
            if held:
                for model, count in held.items():
                    pipe.hset(queues.HELD, queues.model_key(model), str(count))
                pipe.expire(queues.HELD, queues.HELD_SECONDS)
            pipe.execute()
            self._has_told = bool(held)

    def _release(self, connection: Connection, chosen: Sequence[Held]) -> None:
        """Enqueue while the rows are locked, so that a cancel comes before, or finds the job."""
        released = connection.execute(_RELEASE, {"ids": [str(one.id) for one in chosen]})
        rows = [cast("Handed", row._asdict()) for row in released]
        rows.sort(key=lambda row: (row["model"], row["id"]))
        for model, group in groupby(rows, key=lambda row: str(row["model"])):
            self._enqueue(model, list(group))

    def _enqueue(self, model: str, rows: Sequence[Handed]) -> None:
        """Rows with an unusable input, or of a model whose queue cannot be written, are left to the
        relay."""
        jobs = [to_job(row) for row in rows if isinstance(row["input"], dict)]
        try:
            self._queue.enqueue(model, jobs)
        except redis.ResponseError as error:
            if not is_keys_own(error):
                raise
            _log.warning(
                "the queue of model %s cannot be written: %s", model, batches.reason(error)
            )


def choose(held: Iterable[Held], queued: Queued, *, budget: float, room: float) -> list[Held]:
    """The predictions to release next.

    Args:
        held: by owner and model, the oldest first.
        budget, room: see `fits`.
    """
    lines: dict[UUID, dict[str, deque[Held]]] = defaultdict(lambda: defaultdict(deque))
    for one in held:
        lines[one.owner][one.model].append(one)
    load = defaultdict(int, queued)
    totals: dict[UUID, int] = defaultdict(int)
    for (owner, _), size in queued.items():
        totals[owner] += size
    turns = [(totals[owner], owner) for owner in lines]
    heapq.heapify(turns)
    chosen: list[Held] = []
    taken = 0
    while turns and taken < _MOST_BYTES:
        _, owner = heapq.heappop(turns)
        theirs = lines[owner]
        model = min(theirs, key=lambda name: load[owner, name])
        one = theirs[model][0]
        if fits(one.size, load[owner, model], totals[owner], budget, room):
            chosen.append(one)
            taken, room = taken + one.size, room - one.size
            load[owner, model] += one.size
            totals[owner] += one.size
            theirs[model].popleft()
        else:
            theirs[model].clear()  # not in this round
        if not theirs[model]:
            del theirs[model]
        if theirs:
            heapq.heappush(turns, (totals[owner], owner))
    return chosen
