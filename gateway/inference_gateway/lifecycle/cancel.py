"""Ends predictions without a runner: cancel by the user, deletion of the model, deadline.

First the row is ended, under the fence. Then the job is withdrawn, or its runner is told to stop.
Then waiting callers are notified.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

import orjson
import redis
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from inference_contract import queues
from inference_contract.predictions import ErrorCode, PredictionStatus
from inference_gateway.errors import NotFound
from inference_gateway.lifecycle import ends, recorder_position, streamed
from inference_gateway.lifecycle.fence import DELIVERIES, FENCE
from inference_gateway.lifecycle.prediction import Attempt, OpenAttempt, State
from inference_gateway.postgres import db
from inference_gateway.postgres.tables import BRIEF, OPEN
from inference_gateway.redis import replies

_log = logging.getLogger(__name__)
_CANCEL_FLAG_SECONDS = 3600
_PAGE = 500

_END = text(f"""
WITH v AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(CAST(:endings AS jsonb))
    AS v(id uuid, attempt int, token text, outcome text, error text, error_code text,
         if_silent boolean, lease_until timestamptz, output jsonb, logs text)
), changed AS (
  UPDATE predictions p
  SET status = v.outcome, error = v.error, error_code = v.error_code,
      output = COALESCE(v.output, p.output), logs = COALESCE(v.logs, p.logs),
      completed_at = GREATEST(p.created_at, now()), lease_until = NULL
  FROM v
  WHERE {FENCE} AND NOT (v.if_silent AND p.lease_until IS DISTINCT FROM v.lease_until)
  RETURNING p.id, p.webhook, p.webhook_events, '{{completed}}'::text[] AS events
), {DELIVERIES}
SELECT id FROM changed
""")  # noqa: S608 - constants of ours

_REQUEST_CANCEL = text(f"""
UPDATE predictions SET cancel_requested_at = COALESCE(cancel_requested_at, now())
WHERE id = :id AND owner = :owner AND {OPEN}
RETURNING {BRIEF}
""")  # noqa: S608
_READ = text(f"SELECT {BRIEF} FROM predictions WHERE id = :id AND owner = :owner")  # noqa: S608

# A claim takes only jobs with the field `waits`, so the reply `removed` is final.
_WITHDRAW = """
if redis.call('HEXISTS', KEYS[1], 'waits') == 1 then
  redis.call('LREM', KEYS[2], 1, ARGV[1])
  redis.call('DEL', KEYS[1])
  return 'removed'
end
if ARGV[2] then
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return redis.call('EXISTS', KEYS[1]) == 1 and 'running' or 'missing'
"""


class Withdrawal(StrEnum):
    """The result of withdrawing a job."""

    REMOVED = "removed"
    """It was waiting and has been removed."""
    RUNNING = "running"
    """A runner has claimed it."""
    MISSING = "missing"
    """Never enqueued, lost, or just finished."""


@dataclass(frozen=True)
class Ending:
    """The end of an attempt; written only if its row is still open and has this attempt."""

    id: str
    model: str
    attempt: int
    token: str
    outcome: PredictionStatus
    error_code: ErrorCode
    error: str | None = None
    if_silent: bool = False
    """Only if the lease has not been renewed meanwhile."""
    lease_until: datetime | None = None
    may_have_output: bool = False
    """It may be running: streamed output is kept."""
    output: Any = None
    logs: str | None = None


def canceled(row: OpenAttempt, code: ErrorCode, error: str | None = None) -> Ending:
    return Ending(
        id=str(row["id"]),
        model=row["model"],
        attempt=row["attempt"],
        token=row["token"],
        outcome=PredictionStatus.CANCELED,
        error_code=code,
        error=error,
    )


def cancel(engine: Engine, client: redis.Redis, prediction_id: str, owner: str) -> State:
    """Cancel a prediction in any state. Returns the row after it, without its large columns.

    A waiting prediction ends at once, a running one when its runner reports its end. If Redis or
    PostgreSQL fails meanwhile, or the recorder is behind, dispatch carries the cancel out later.

    Raises:
        NotFound: if the owner has no such prediction.
    """
    row = _request(engine, prediction_id, owner)
    if row["completed_at"] is not None:
        return row
    try:
        if not _unclaimed(client, [row]):
            return row
        end(engine, client, [canceled(row, ErrorCode.CANCELED)])
        with engine.begin() as connection:
            return _one(connection, _READ, prediction_id, owner)
    except (redis.RedisError, SQLAlchemyError) as error:
        reason = db.describe(error)
        _log.warning("dispatch cancels later: %s", reason, extra={"prediction": prediction_id})
        return row


def _request(engine: Engine, prediction_id: str, owner: str) -> State:
    with engine.begin() as connection:
        try:
            return _one(connection, _REQUEST_CANCEL, prediction_id, owner)
        except NotFound:
            return _one(connection, _READ, prediction_id, owner)


def _one(connection: Connection, query: Any, prediction_id: str, owner: str) -> State:
    try:
        parameters = {"id": UUID(prediction_id), "owner": owner}
    except ValueError:
        raise NotFound(f"There is no prediction {prediction_id}.") from None
    row = connection.execute(query, parameters).one_or_none()
    if row is None:
        raise NotFound(f"There is no prediction {prediction_id}.")
    return cast("State", row._asdict())


def _unclaimed(
    client: redis.Redis, rows: Sequence[OpenAttempt], *, stop: bool = True
) -> list[OpenAttempt]:
    """Withdraw the jobs of one model. Returns the rows that no runner has or had claimed."""
    found = withdraw(client, rows, stop=stop)
    withdrawals = dict(zip((row["id"] for row in rows), found, strict=True))
    removed = [row for row in rows if withdrawals[row["id"]] is Withdrawal.REMOVED]
    missing = [
        row
        for row in rows
        if withdrawals[row["id"]] is Withdrawal.MISSING
        and row["status"] == PredictionStatus.STARTING
    ]
    if missing:
        key = queues.model_key(missing[0]["model"])
        if recorder_position.is_recorded(
            client, key, recorder_position.last_events(client, [key])[key]
        ):
            return removed + missing
    return removed


def withdraw(
    client: redis.Redis, rows: Sequence[Attempt], *, stop: bool = True
) -> list[Withdrawal]:
    """Take jobs off their queues.

    Args:
        stop: tell the runners of jobs that are not queued to stop them.
    """
    with client.pipeline(transaction=False) as pipe:
        for row in rows:
            key, prediction, attempt = (
                queues.model_key(row["model"]),
                str(row["id"]),
                row["attempt"],
            )
            job = queues.job_id(key, prediction, attempt)
            keys = [queues.job_key(job), queues.queue_key(key), queues.cancel_key(key)]
            flag: list[str | int] = [prediction, attempt, _CANCEL_FLAG_SECONDS] if stop else []
            pipe.eval(_WITHDRAW, len(keys), *keys, job, *flag)
        return [_withdrawal(reply) for reply in replies.each(pipe)]


def _withdrawal(reply: Any) -> Withdrawal:
    """The result in a reply. MISSING for an error: runners may have damaged their model's keys."""
    return Withdrawal.MISSING if isinstance(reply, Exception) else Withdrawal(reply.decode())


def end(engine: Engine, client: redis.Redis, endings: Iterable[Ending]) -> list[Ending]:
    """End rows and notify waiting callers. Returns the endings that were written."""
    endings = [_with_output(client, ending) for ending in endings]
    with engine.begin() as connection:
        ended = end_rows(connection, endings)
    try:
        if ended:
            ends.announce(client, ends.nameless(ending.id for ending in ended))
    except redis.RedisError:
        _log.warning("Redis does not answer: waiting callers will read the row themselves")
    return ended


def _with_output(client: redis.Redis, ending: Ending) -> Ending:
    if not ending.may_have_output:
        return ending
    try:
        output, logs = streamed.so_far(client, ending.model, ending.id, ending.attempt)
    except redis.RedisError:
        _log.warning(
            "Redis does not answer: an output so far is lost", extra={"prediction": ending.id}
        )
        return ending
    return replace(ending, output=output, logs=logs or None)


def end_rows(connection: Connection, endings: Iterable[Ending]) -> list[Ending]:
    """The part of `end` in a transaction. Rows are locked in the order of their ids."""
    by_id = {ending.id: ending for ending in sorted(endings, key=lambda ending: ending.id)}
    if not by_id:
        return []
    parameter = orjson.dumps(list(by_id.values())).decode()
    ids = connection.execute(_END, {"endings": parameter}).scalars()
    return [by_id[str(ended)] for ended in ids]


_WAITING = text(f"""
SELECT id, model, status, attempt, token FROM predictions
WHERE model = :model AND id > :after AND {OPEN} AND status = 'starting'
ORDER BY id LIMIT :page
""")  # noqa: S608


def has_waiting(engine: Engine, model: str) -> bool:
    return bool(_waiting(engine, model, UUID(int=0), 1))


def end_waiting(engine: Engine, client: redis.Redis, model: str) -> int:
    """Cancel the waiting predictions of a deleted model. Returns their number. Claimed ones may
    finish.

    Raises:
        redis.RedisError: Redis does not answer, so it is not known which are claimed.
    """
    error = "The model was deleted."
    after, ended = UUID(int=0), 0
    while rows := _waiting(engine, model, after, _PAGE):
        # Oldest first: removing at the head of the queue is cheap.
        after = rows[-1]["id"]
        gone = _unclaimed(client, rows, stop=False)
        endings = [canceled(row, ErrorCode.MODEL_DELETED, error) for row in gone]
        ended += len(end(engine, client, endings))
    return ended


def _waiting(engine: Engine, model: str, after: UUID, page: int) -> list[OpenAttempt]:
    with engine.connect() as connection:
        parameters = {"model": model, "after": after, "page": page}
        return [
            cast("OpenAttempt", row._asdict()) for row in connection.execute(_WAITING, parameters)
        ]
