"""Carries out recoveries once the recorder has written all events that could contradict them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, cast

import orjson
import redis
from sqlalchemy import Engine, text

from inference_contract.predictions import ErrorCode, PredictionStatus
from inference_contract.queues import model_key, queue_key
from inference_gateway.dispatch import batches, metrics
from inference_gateway.dispatch.recovery.rules import Cause, HandOut, Recovery
from inference_gateway.lifecycle import recorder_position
from inference_gateway.lifecycle.cancel import Ending, end, withdraw
from inference_gateway.lifecycle.fence import FENCE
from inference_gateway.lifecycle.job_queue import HANDED, JobQueue, to_job
from inference_gateway.lifecycle.prediction import Attempt, Handed
from inference_gateway.redis.replies import is_keys_own

_log = logging.getLogger(__name__)
_TOKEN_BYTES = 16
_ASK_AGAIN = 0.05

# Compares the lease that the recovery was based on, not the time: the statement may be delayed by a
# suspended PostgreSQL, and leases that were renewed after the recovery may have expired by then.
_HAND_OUT = text(f"""
WITH v AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS v(id uuid, attempt int, token text, next_token text, crashes int, lease_until timestamptz)
)
UPDATE predictions p
SET status = 'starting', attempt = p.attempt + 1, token = v.next_token,
    crashes = p.crashes + v.crashes,
    started_at = NULL, lease_until = NULL, output = NULL, logs = ''
FROM v
WHERE {FENCE} AND p.lease_until IS NOT DISTINCT FROM v.lease_until
RETURNING {HANDED}
""")  # noqa: S608 - constants of ours


class PendingRecoveries:
    """Recoveries that wait for the recorder: unread events may still change the rows."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._redis = client
        self._queue = JobQueue(client)
        self._waiting: dict[str, tuple[Recovery, str]] = {}
        """Prediction → recovery, and the stream position that the recorder must have reached."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, recoveries: Iterable[Recovery]) -> None:
        """Call it after the reads of Redis and PostgreSQL that the recoveries are based on."""
        new = [v for v in recoveries if self._is_new(v)]
        if new:
            ends = recorder_position.last_events(self._redis, {model_key(v.model) for v in new})
            self._waiting.update((v.id, (v, ends[model_key(v.model)])) for v in new)

    def _is_new(self, recovery: Recovery) -> bool:
        known = self._waiting.get(recovery.id)
        return known is None or known[0] != recovery

    def settle(self) -> float | None:
        """Carry out recoveries that the recorder has passed. Returns the seconds until the next
        call, None if none is left."""
        recorded = {
            (key, end)
            for key, end in {(model_key(v.model), end) for v, end in self._waiting.values()}
            if recorder_position.is_recorded(self._redis, key, end)
        }
        ready = [v for v, end in self._waiting.values() if (model_key(v.model), end) in recorded]
        for recovery in ready:
            del self._waiting[recovery.id]
        self._end([v for v in ready if isinstance(v, Ending)])
        self._hand_out([v for v in ready if isinstance(v, HandOut)])
        return _ASK_AGAIN if self._waiting else None

    def _end(self, endings: Sequence[Ending]) -> None:
        if not endings:
            return
        ended = end(self._engine, self._redis, endings)
        for ending in ended:
            metrics.ENDED.labels(ending.error_code.value).inc()
            _log.info("ended: %s", ending.error_code.value, extra=_story(ending))
        rows: list[Attempt] = [{"id": e.id, "model": e.model, "attempt": e.attempt} for e in ended]
        withdraw(self._redis, rows)

    def _hand_out(self, orders: Sequence[HandOut]) -> None:
        # Newest first, each to the front of the queue, so that the oldest runs next.
        orders = sorted(orders, key=lambda order: (order.model, order.id), reverse=True)
        by_id = {order.id: order for order in orders}
        parts = batches.write(self._write, orders, _set_aside)
        rows = [row for part in parts for row in part]
        rows.sort(key=lambda row: (row["model"], row["id"]), reverse=True)
        for row in rows:
            order = by_id[str(row["id"])]
            metrics.HANDED_OUT.labels(order.reason.value).inc()
            _log.info("handed out again: %s", order.reason.value, extra=_story(order))
        self._end([_bad_input(row) for row in rows if not _has_input(row)])
        for model, group in groupby(filter(_has_input, rows), key=lambda row: str(row["model"])):
            self._enqueue(model, list(group))

    def _write(self, orders: Sequence[HandOut]) -> list[Handed]:
        parameter = orjson.dumps([_new_attempt(order) for order in orders]).decode()
        with self._engine.begin() as connection:
            found = connection.execute(_HAND_OUT, {"rows": parameter})
            return [cast("Handed", row._asdict()) for row in found]

    def _enqueue(self, model: str, rows: Sequence[Handed]) -> None:
        """A queue that cannot be written delays only its own model's predictions: the relay tries
        again, up to `MOST_ATTEMPTS` times."""
        try:
            self._queue.enqueue(model, map(to_job, rows), front=True)
        except redis.ResponseError as error:
            if not is_keys_own(error):
                raise
            metrics.SET_ASIDE.labels("relay").inc(len(rows))
            _log.warning("the queue of model %s is not a list: %s; it is removed", model, error)
            self._redis.delete(queue_key(model_key(model)))


def _has_input(row: Handed) -> bool:
    return isinstance(row["input"], dict)


def _bad_input(row: Handed) -> Ending:
    metrics.SET_ASIDE.labels("relay").inc()
    return Ending(
        id=str(row["id"]),
        model=row["model"],
        attempt=row["attempt"],
        token=row["token"],
        outcome=PredictionStatus.FAILED,
        error_code=ErrorCode.INPUT,
        error="Its input is none that a runner could be given.",
    )


def _set_aside(order: HandOut, error: Exception) -> list[Handed]:
    metrics.SET_ASIDE.labels("relay").inc()
    _log.error("cannot be handed out: %s", batches.reason(error), extra=_story(order))
    return []


def _new_attempt(order: HandOut) -> dict[str, Any]:
    return {
        "id": order.id,
        "attempt": order.attempt,
        "token": order.token,
        "next_token": secrets.token_urlsafe(_TOKEN_BYTES),
        "crashes": int(order.reason is Cause.CRASHED),
        "lease_until": order.lease_until,
    }


def _story(recovery: Recovery) -> dict[str, object]:
    return {"prediction": recovery.id, "attempt": recovery.attempt, "model": recovery.model}


def pause(tick_in: float, again: float | None) -> float:
    """Seconds until the next tick, or until `settle` is to be called `again` if that is sooner."""
    until = max(tick_in, 0.0)
    return until if again is None else min(until, again)
