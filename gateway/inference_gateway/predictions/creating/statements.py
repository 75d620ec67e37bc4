"""The SQL that stores new predictions."""

from __future__ import annotations

# One statement for all cases: new rows, rows with an idempotency key that exists already, and rows
# that are sent again because the outcome of the first attempt is unknown. ON CONFLICT waits for
# concurrent inserts of the same key, so afterwards each row exists exactly once. Rows are sorted by
# key, so that two gateways cannot deadlock. The count tells whether any row existed before. (ON
# CONFLICT costs about a tenth of an INSERT.)
PREPARE = """
PREPARE create_predictions (json) AS
WITH inserted AS (
  INSERT INTO predictions (id, owner, model, version, token, input, input_bytes, held, webhook,
    webhook_events, base_url, idempotency_key, request_hash, created_at, deadline)
  SELECT id, owner, model, version, token, input, input_bytes, held, webhook,
    webhook_events, base_url, idempotency_key, request_hash, now(),
    now() + make_interval(secs => lives_seconds)
  FROM json_to_recordset($1) AS r(id uuid, owner uuid, model text, version text, token text,
    input jsonb, input_bytes int, held boolean, webhook text, webhook_events text[],
    base_url text, idempotency_key text, request_hash text, lives_seconds int)
  ON CONFLICT DO NOTHING
  RETURNING 1
)
SELECT now(), count(*) FROM inserted
"""
INSERT = "EXECUTE create_predictions (%s)"
