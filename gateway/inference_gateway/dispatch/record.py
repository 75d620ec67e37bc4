"""Writing a batch of changes to PostgreSQL: one statement, under the fence."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Engine, event, text

from inference_contract import values
from inference_contract.predictions import ErrorCode, PredictionStatus
from inference_gateway import ends
from inference_gateway.dispatch import batches, metrics
from inference_gateway.dispatch.fence import DELIVERIES, FENCE
from inference_gateway.dispatch.fold import RowChange

_log = logging.getLogger(__name__)

# Any sign of life renews the lease, by the database's clock; what a runner gives back (`starting`)
# has none: the relay finds it without a job, and hands it out. `started_at` and `completed_at` come
# from the ids of entries: Redis' time, which may differ from the database's, unless a runner chose
# them. Neither moment lies before the creation, or in the future.
_NOW = "EXTRACT(epoch FROM now())::float8"
RECORD = f"""
WITH v AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(CAST(:changes AS jsonb)) AS v(
    id uuid, attempt int, token text, outcome text, started_ms float8, ended_ms float8,
    output jsonb, logs text, error text, error_code text, metrics jsonb, crashes int,
    events text[])
), changed AS (
  UPDATE predictions p
  SET status = v.outcome,
      output = COALESCE(v.output, p.output),
      logs = COALESCE(v.logs, p.logs),
      error = v.error,
      error_code = v.error_code,
      metrics = COALESCE(v.metrics, p.metrics),
      started_at = CASE WHEN v.started_ms IS NULL THEN p.started_at
        ELSE GREATEST(p.created_at, to_timestamp(LEAST(v.started_ms / 1000, {_NOW}))) END,
      completed_at = CASE WHEN v.ended_ms IS NOT NULL
        THEN GREATEST(p.created_at, to_timestamp(LEAST(v.ended_ms / 1000, {_NOW}))) END,
      crashes = p.crashes + v.crashes,
      lease_until = CASE WHEN v.ended_ms IS NULL AND v.outcome <> 'starting'
        THEN now() + make_interval(secs => :lease_seconds) END
  FROM v
  WHERE {FENCE}
  RETURNING p.id, p.webhook, p.webhook_events, v.events, p.attempt, p.status, p.output, p.logs,
    p.error, p.error_code, p.metrics, p.started_at, p.completed_at
), {DELIVERIES}
SELECT (SELECT count(*) FROM changed) AS applied, (SELECT count(*) FROM told) AS told,
  CASE WHEN :in_words THEN ({ends.COLUMNS}) END AS ends
"""  # noqa: S608 - constants of ours

_RECORD = text(RECORD)

# Statistics of an almost empty table make scans look cheaper than lookups.
_PLAN = "SET enable_seqscan = off; SET enable_nestloop = off"


class Recorded(NamedTuple):
    applied: int
    stale: int
    """Changes that met no open row of their attempt and token."""
    told: int
    """Webhook deliveries that were made."""
    ends: tuple[str, ...] = ()
    """Messages of the channel that tell what has ended."""

    def __add__(self, other: tuple[Any, ...]) -> Recorded:
        return Recorded(*(a + b for a, b in zip(self, other, strict=True)))


def prepare(engine: Engine) -> Engine:
    """Let every connection of the engine plan statements with the fence in the one good way.

    For recorder, relay and sweeper; other joins are planned badly on it.
    """

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_PLAN)
        connection.commit()

    return engine


def apply(
    engine: Engine, changes: Sequence[RowChange], lease_seconds: float, *, in_words: bool = True
) -> Recorded:
    """Write a batch; a change that PostgreSQL does not take ends its prediction as failed.

    Args:
        in_words: say how predictions have ended: somebody listens.

    Raises:
        sqlalchemy.exc.DBAPIError: if PostgreSQL is away or busy; to be tried again as a whole.
    """

    def statement(part: Sequence[RowChange]) -> Recorded:
        parameters = {
            "changes": orjson.dumps(part).decode(),
            "lease_seconds": lease_seconds,
            "in_words": in_words,
        }
        # One statement is a transaction of its own: no round trips for BEGIN and COMMIT.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            applied, told, ended = connection.execute(_RECORD, parameters).one()
        return Recorded(applied, len(part) - applied, told, (ended,) if ended else ())

    def set_aside(culprit: RowChange, error: Exception) -> Recorded:
        metrics.SET_ASIDE.labels("recorder").inc()
        story = {"prediction": culprit.id, "attempt": culprit.attempt}
        _log.warning("cannot be recorded: %s", batches.reason(error), extra=story)
        instead = [refused(culprit, batches.reason(error))]
        return sum(batches.write(statement, instead, drop), Recorded(0, 0, 0))

    def drop(culprit: RowChange, error: Exception) -> Recorded:
        story = {"prediction": culprit.id, "attempt": culprit.attempt}
        _log.error("dropped an event that cannot be stored", exc_info=error, extra=story)
        return Recorded(0, 0, 0)

    return sum(batches.write(statement, changes, set_aside), Recorded(0, 0, 0))


def refused(change: RowChange, reason: str) -> RowChange:
    """What is recorded in place of a change that PostgreSQL does not take."""
    return RowChange(
        id=change.id,
        attempt=change.attempt,
        token=change.token,
        outcome=PredictionStatus.FAILED.value,
        ended_ms=int(time.time() * 1000),
        error=values.text(f"The output cannot be stored: {reason}"),
        error_code=ErrorCode.OUTPUT.value,
        events=["completed"],
    )
