"""Finds open rows with an expired lease or deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import Engine, text

from inference_gateway.dispatch import metrics
from inference_gateway.dispatch.recovery.outage_grace import OutageGrace
from inference_gateway.dispatch.recovery.pending import PendingRecoveries, pause
from inference_gateway.dispatch.recovery.rules import OpenRow, on_overdue
from inference_gateway.lifecycle.cancel import withdraw
from inference_gateway.postgres.tables import OPEN

_PAGE = 1000
_PAGES_A_STEP = 10
"""Pages in one step; the next step starts over, as these rows have ended by then."""
_GAUGES_EVERY = 10.0

_OVERDUE = text(f"""
SELECT id, model, status, attempt, token, crashes,
       cancel_requested_at IS NOT NULL AS cancel_requested,
       deadline < now() AS late,
       COALESCE(lease_until < now(), false) AS lease_ended,
       lease_until
FROM predictions
WHERE {OPEN} AND (model, id) > (:model, :id) AND (
  deadline < now() OR lease_until < now()
  OR (status = 'processing' AND cancel_requested_at IS NOT NULL))
ORDER BY model, id
LIMIT :page
""")  # noqa: S608 - constants of ours
_GAUGES = text(f"""
SELECT status, count(*), EXTRACT(epoch FROM max(now() - created_at))::float8
FROM predictions WHERE {OPEN} GROUP BY status
""")  # noqa: S608


class Sweeper:
    def __init__(
        self,
        engine: Engine,
        client: redis.Redis,
        *,
        sweep_seconds: float,
        max_attempts: int,
        grace: OutageGrace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._redis = client
        self._sweep_seconds = sweep_seconds
        self._max_attempts = max_attempts
        self._grace = grace
        self._clock = clock
        self._pending = PendingRecoveries(engine, client)
        self._tick_at = 0.0
        self._gauges_at = 0.0

    def step(self) -> float:
        """Check overdue rows when it is due, and carry out pending recoveries."""
        asked: list[OpenRow] = []
        if self._clock() >= self._tick_at:
            asked = self._walk()
            self._tick_at = self._clock() + self._sweep_seconds
        if self._clock() >= self._gauges_at:
            self._measure()
        again = self._pending.settle()
        # Repeats cancel requests, which the runner may have missed or Redis lost. Last: a full
        # Redis refuses them, and deadlines must be kept all the same.
        withdraw(self._redis, [{"id": r.id, "model": r.model, "attempt": r.attempt} for r in asked])
        return pause(self._tick_at - self._clock(), again)

    def _walk(self) -> list[OpenRow]:
        """Recover overdue rows. Returns the rows that their runners must cancel."""
        asked: list[OpenRow] = []
        model, last = "", UUID(int=0)
        for _ in range(_PAGES_A_STEP):
            parameters: dict[str, Any] = {"model": model, "id": last, "page": _PAGE}
            began = self._grace.now()
            with self._engine.begin() as connection:
                rows = [OpenRow(*row) for row in connection.execute(_OVERDUE, parameters)]
            asked += self._judge(rows, began)
            if len(rows) < _PAGE:
                break
            model, last = rows[-1].model, rows[-1].id
        return asked

    def _judge(self, rows: list[OpenRow], began: float) -> list[OpenRow]:
        leases_unreliable, ends_may_be_lost = (
            self._grace.active(began),
            self._grace.ends_may_be_lost(),
        )
        recoveries = [
            (
                row,
                on_overdue(
                    row,
                    self._max_attempts,
                    leases_unreliable=leases_unreliable,
                    ends_may_be_lost=ends_may_be_lost,
                ),
            )
            for row in rows
        ]
        self._pending.add([recovery for _, recovery in recoveries if recovery is not None])
        return [row for row, recovery in recoveries if recovery is None and row.cancel_requested]

    def _measure(self) -> None:
        with self._engine.begin() as connection:
            rows = connection.execute(_GAUGES).all()
        counts = {status: count for status, count, _ in rows}
        for status in ("starting", "processing"):
            metrics.OPEN.labels(status).set(counts.get(status, 0))
        metrics.OLDEST.set(max((age for _, _, age in rows), default=0.0))
        self._gauges_at = self._clock() + _GAUGES_EVERY
