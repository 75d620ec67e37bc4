"""Telling that predictions have ended, on a channel of Redis', once that is committed.

A message is a JSON object: prediction → its columns as the row has them, or null: look at the row.
Runners have no right to the channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
import redis

from inference_contract import queues

_MAX_BYTES = 8000
"""What is larger is read from its row by those who want it, instead of being sent to everybody."""

# Of a common table `changed` that has the columns of the rows as they are now.
COLUMNS = f"""
SELECT json_object_agg(c.id, CASE
    WHEN COALESCE(pg_column_size(c.output), 0) + pg_column_size(c.logs)
      + COALESCE(pg_column_size(c.error), 0) < {_MAX_BYTES}
    THEN json_build_object('attempt', c.attempt, 'status', c.status, 'output', c.output,
      'logs', c.logs, 'error', c.error, 'error_code', c.error_code, 'metrics', c.metrics,
      'started_at', c.started_at, 'completed_at', c.completed_at) END)::text
FROM changed c WHERE c.completed_at IS NOT NULL"""  # noqa: S608 - constants of ours


def announce(client: redis.Redis, message: str | bytes) -> int:
    """How many heard it. Raises redis.RedisError."""
    return int(client.publish(queues.ENDED, message))


def nameless(predictions: Iterable[str]) -> bytes:
    """A message that does not say how they have ended."""
    return orjson.dumps(dict.fromkeys(predictions))


def read(message: bytes) -> dict[str, dict[str, Any] | None]:
    ends: dict[str, dict[str, Any] | None] = orjson.loads(message)
    return ends


def columns(end: dict[str, Any]) -> dict[str, Any]:
    """The columns of an end with the types that a row has."""
    for name in ("started_at", "completed_at"):
        if (moment := end[name]) is not None:
            end[name] = datetime.fromisoformat(moment)
    return end
