"""Writing a batch of changes to PostgreSQL, under the fence."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Engine, event

from inference_contract import values
from inference_contract.predictions import ErrorCode, PredictionStatus
from inference_contract.webhooks import WebhookEvent
from inference_gateway.dispatch import batches, metrics
from inference_gateway.dispatch.recording.event_batch import RowChange
from inference_gateway.lifecycle import ends
from inference_gateway.lifecycle.fence import DELIVERIES, OPEN_ATTEMPT
from inference_gateway.postgres.prepared import Prepared

_log = logging.getLogger(__name__)

# Every event renews the lease, by the database's clock. A prediction that its runner returned
# (`starting`) gets none: the relay finds it without a job and hands it out. `started_at` and
# `completed_at` are taken from entry ids: Redis' time, which may differ from the database's, or
# ids that a hostile runner chose. So both are limited to between the creation and now.
_NOW = "EXTRACT(epoch FROM now())::float8"
_UPDATE = f"""
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
      THEN now() + make_interval(secs => $3) END
FROM jsonb_to_recordset($1) AS v(
  id uuid, attempt int, token text, outcome text, started_ms float8, ended_ms float8,
  output jsonb, logs text, error text, error_code text, metrics jsonb, crashes int,
  events text[])
WHERE p.id = ANY ($2) AND {OPEN_ATTEMPT}"""  # noqa: S608 - constants of ours
_END = f"CASE WHEN $4 THEN {ends.COLUMNS} END"
# The part that creates deliveries takes a third of the statement's time for a small batch, even
# without any. So rows with a webhook have a second statement, which most batches do not need.
PREPARE = f"""
PREPARE record (jsonb, uuid[], float8, boolean) AS
{_UPDATE} AND p.webhook IS NULL
RETURNING p.id::text, {_END}, 0;

PREPARE record_and_tell (jsonb, uuid[], float8, boolean) AS
WITH changed AS ({_UPDATE}
  RETURNING p.id, p.webhook, p.webhook_events, v.events, p.attempt, p.status, p.output, p.logs,
    p.error, p.error_code, p.metrics, p.started_at, p.completed_at
), {DELIVERIES}
SELECT p.id::text, {_END}, (SELECT count(*) FROM told) FROM changed p
"""  # noqa: S608 - constants of ours

RECORD = "EXECUTE record (%s, %s, %s, %s)"
RECORD_AND_TELL = "EXECUTE record_and_tell (%s, %s, %s, %s)"

# Statistics of an almost empty table make scans look cheaper than lookups.
_PLAN = "SET enable_seqscan = off; SET enable_nestloop = off"
# The plan does not depend on the number of changes, and planning costs as much as writing one row.
_ONE_PLAN = "SET plan_cache_mode = force_generic_plan"


class Written(NamedTuple):
    """What a statement returns for each changed row."""

    id: str
    end: str | None
    """`ends.COLUMNS`; None if no gateway listens."""
    told: int
    """Webhook deliveries created by the whole statement."""


class Recorded(NamedTuple):
    applied: int
    stale: int
    """Changes without an open row of their attempt and token."""
    has_told: bool
    """Whether webhook deliveries were created."""
    message: str | None
    """The message about ends, for the channel."""


def prepare(engine: Engine) -> Engine:
    """Set planner options on every connection of the engine, for statements with the fence.

    For recorder, relay and sweeper only: other joins get bad plans with these options.
    """

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_PLAN)
        connection.commit()

    return engine


class Recording:
    """Writes batches of changes on a connection of its own, with prepared statements: no further
    round trips or planning before the commit. For one thread."""

    def __init__(self, engine: Engine, lease_seconds: float) -> None:
        statements = f"{_PLAN}; {_ONE_PLAN}; {PREPARE}"
        self._prepared = Prepared(lambda: _taken_from(engine), statements)
        self._lease_seconds = lease_seconds

    def apply(self, changes: Sequence[RowChange], *, in_words: bool = True) -> Recorded:
        """Write a batch. A change that PostgreSQL refuses ends its prediction as failed.

        Args:
            in_words: whether the message contains the ended rows, for gateways that listen.

        Raises:
            sqlalchemy.exc.DBAPIError, psycopg2.Error: PostgreSQL does not answer or is busy; retry
                the whole batch.
        """

        def write(part: Sequence[RowChange]) -> list[Written]:
            return self._write(RECORD_AND_TELL, part, in_words=in_words)

        def set_aside(culprit: RowChange, error: Exception) -> list[Written]:
            metrics.SET_ASIDE.labels("recorder").inc()
            story = {"prediction": culprit.id, "attempt": culprit.attempt}
            _log.warning("cannot be recorded: %s", batches.reason(error), extra=story)
            instead = [refused(culprit, batches.reason(error))]
            return list(chain.from_iterable(batches.write(write, instead, _drop)))

        try:
            rows = self._write(RECORD, changes, in_words=in_words) if changes else []
        except Exception as error:
            if not batches.blames_data(error):
                raise
            rows = []
        if len(rows) < len(changes):
            done = {row.id for row in rows}
            rest = [change for change in changes if change.id not in done]
            rows += chain.from_iterable(batches.write(write, rest, set_aside))
        found = [(row.id, row.end) for row in rows if row.end is not None]
        return Recorded(
            applied=len(rows),
            stale=len(changes) - len(rows),
            has_told=any(row.told for row in rows),
            message=ends.message(found) if found else None,
        )

    def _write(
        self, statement: str, changes: Sequence[RowChange], *, in_words: bool
    ) -> list[Written]:
        ids = "{" + ",".join(change.id for change in changes) + "}"
        parameters = (orjson.dumps(changes).decode(), ids, self._lease_seconds, in_words)
        connection = self._prepared.connection()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return [Written(*row) for row in cursor.fetchall()]
        except Exception as error:
            if not batches.blames_data(error):
                self._prepared.close()  # It broke, or leads to a former primary.
            raise


def _taken_from(engine: Engine) -> Any:
    """A connection that is detached from the pool. Raises sqlalchemy.exc.DBAPIError."""
    made = engine.raw_connection()
    connection = made.driver_connection
    made.detach()
    return connection


def _drop(culprit: RowChange, error: Exception) -> list[Written]:
    story = {"prediction": culprit.id, "attempt": culprit.attempt}
    _log.error("dropped an event that cannot be stored", exc_info=error, extra=story)
    return []


def refused(change: RowChange, reason: str) -> RowChange:
    """The change to record instead of one that PostgreSQL refuses."""
    return RowChange(
        id=change.id,
        attempt=change.attempt,
        token=change.token,
        outcome=PredictionStatus.FAILED.value,
        ended_ms=int(time.time() * 1000),
        error=values.text(f"The output cannot be stored: {reason}"),
        error_code=ErrorCode.OUTPUT.value,
        events=[WebhookEvent.COMPLETED.value],
    )
