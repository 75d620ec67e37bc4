"""The SQL that stores new predictions."""

from __future__ import annotations

INSERTED = {
    "id": "uuid",
    "owner": "uuid",
    "model": "text",
    "version": "text",
    "token": "text",
    "input": "jsonb",
    "input_bytes": "int",
    "held": "boolean",
    "webhook": "text",
    "webhook_events": "text[]",
    "base_url": "text",
    "idempotency_key": "text",
    "request_hash": "text",
}
"""Columns that a new row brings, with their types; `insert.record` sends them."""
_COLUMNS = ", ".join(INSERTED)
_TYPED = ", ".join(f"{name} {kind}" for name, kind in INSERTED.items())

# One statement for all cases: new rows, rows with an idempotency key that exists already, and rows
# that are sent again because the outcome of the first attempt is unknown. ON CONFLICT waits for
# concurrent inserts of the same key, so afterwards each row exists exactly once. Rows are sorted by
# key, so that two gateways cannot deadlock. The count tells whether any row existed before. (ON
# CONFLICT costs about a tenth of an INSERT.)
PREPARE = f"""
PREPARE create_predictions (json) AS
WITH inserted AS (
  INSERT INTO predictions ({_COLUMNS}, created_at, deadline)
  SELECT {_COLUMNS}, now(), now() + make_interval(secs => lives_seconds)
  FROM json_to_recordset($1) AS r({_TYPED}, lives_seconds int)
  ON CONFLICT DO NOTHING
  RETURNING 1
)
SELECT now(), count(*) FROM inserted
"""  # noqa: S608 - constants of ours
INSERT = "EXECUTE create_predictions (%s)"
