"""Enqueues waiting predictions whose job is missing in Redis."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from sqlalchemy import Engine, text

from inference_gateway.dispatch.recovery import jobs
from inference_gateway.dispatch.recovery.losses import Losses
from inference_gateway.dispatch.recovery.outage_grace import OutageGrace
from inference_gateway.dispatch.recovery.pending import PendingRecoveries, pause
from inference_gateway.dispatch.recovery.rules import OpenRow, on_starting
from inference_gateway.postgres.tables import OPEN

_log = logging.getLogger(__name__)
_PAGE = 1000
"""Rows in one tick; a longer queue takes several ticks, to limit the load."""
_MAX_SUSPECTS = 10_000

_SELECT = f"""
SELECT id, model, status, attempt, token, crashes,
       cancel_requested_at IS NOT NULL AS cancel_requested
FROM predictions
WHERE {OPEN} AND status = 'starting' AND NOT held
  AND created_at < now() - interval '2 seconds' {{bound}}
ORDER BY model DESC, id DESC
LIMIT :page
"""  # noqa: S608 - constants of ours
_FIRST_PAGE = text(_SELECT.format(bound=""))
_NEXT_PAGE = text(_SELECT.format(bound="AND (model, id) < (:model, :id)"))
_STILL_OPEN = text(f"SELECT id, attempt FROM predictions WHERE id = ANY (:ids) AND {OPEN}")  # noqa: S608


class Relay:
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
        self._losses = Losses(client)
        self._after: OpenRow | None = None
        """The last row of the last page; the next tick continues after it."""
        self._hurry = True
        """After the start or a loss of Redis' data: no pauses until every row was checked."""
        self._tick_at = 0.0

    def step(self) -> float:
        """Check a page of rows when it is due, and carry out pending recoveries."""
        if self._hurry or self._clock() >= self._tick_at:
            self._walk()
            self._tidy()
            self._tick_at = self._clock() + self._sweep_seconds
        again = self._pending.settle()
        return 0.0 if self._hurry else pause(self._tick_at - self._clock(), again)

    def _walk(self) -> None:
        # Raises if Redis refuses writes: nothing can be handed out, and no attempts may be wasted.
        if self._losses.seen():
            self._after = None
            self._hurry = True
        rows = self._next_page()
        self._judge(rows)
        self._after = rows[-1] if len(rows) == _PAGE else None
        if self._after is None or len(self._pending) > _MAX_SUSPECTS:
            self._hurry = False  # all rows checked, or the recorder is behind

    def _next_page(self) -> list[OpenRow]:
        """The next rows, newest first."""
        parameters: dict[str, Any] = {"page": _PAGE}
        query = _FIRST_PAGE
        if self._after is not None:
            parameters |= {"model": self._after.model, "id": self._after.id}
            query = _NEXT_PAGE
        with self._engine.begin() as connection:
            return [OpenRow(*row) for row in connection.execute(query, parameters)]

    def _judge(self, rows: list[OpenRow]) -> None:
        began = self._grace.now()
        found = jobs.states(self._redis, rows)
        leases_unreliable, ends_may_be_lost = (
            self._grace.active(began),
            self._grace.ends_may_be_lost(),
        )
        recoveries = (
            on_starting(
                row,
                job,
                self._max_attempts,
                leases_unreliable=leases_unreliable,
                ends_may_be_lost=ends_may_be_lost,
            )
            for row, job in zip(rows, found, strict=True)
        )
        self._pending.add([recovery for recovery in recoveries if recovery is not None])
        self._pending.settle()

    def _tidy(self) -> None:
        """Remove expired leases of ended attempts: they would count as load."""
        for key, members in jobs.expired(self._redis).items():
            attempts = jobs.attempts(members)
            ids = {prediction for prediction, _ in attempts.values()}
            with self._engine.begin() as connection:
                rows = connection.execute(_STILL_OPEN, {"ids": list(ids)})
                current = {(row.id, row.attempt) for row in rows}
            over = [member for member, attempt in attempts.items() if attempt not in current]
            jobs.forget(self._redis, key, over)
