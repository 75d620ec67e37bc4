"""The SQL shared by all statements that write the outcome of an attempt."""

from __future__ import annotations

from inference_contract.webhooks import WHILE_RUNNING, WebhookEvent

# Only the current attempt may write, while its row is open. `v` are the changes, `p` the table.
# `completed_at IS NULL` is equivalent to the predicate of the index of open rows (by a CHECK), but
# the planner does not match it with that index. For a lookup by id that index looks cheap on an
# almost empty table, and is full of dead entries in a busy one.
OPEN_ATTEMPT = """
p.id = v.id AND p.attempt = v.attempt AND p.token = v.token AND p.completed_at IS NULL"""
# With the array every plan starts from the primary key.
FENCE = f"""
p.id = ANY (ARRAY (SELECT id FROM v)) AND {OPEN_ATTEMPT}"""  # noqa: S608 - constants of ours

# Webhook deliveries for the rows that a statement has just changed, created by the same statement.
# The common table `changed` has id, webhook, webhook_events and `events`: what happened to the row.
# Without a filter only the end is sent. While a delivery of `output` or `logs` is pending, a second
# one is not created: the newest state is sent. (The condition on `state` is written so that the
# planner does not use the partial index of pending deliveries, which a dead receiver makes long.)
DELIVERIES = f"""
told AS (
  INSERT INTO webhook_deliveries (prediction_id, owner, event, url)
  SELECT c.id, (SELECT owner FROM predictions WHERE id = c.id), e.event, c.webhook
  FROM changed c CROSS JOIN unnest(c.events) AS e(event)
  WHERE c.webhook IS NOT NULL
    AND e.event = ANY (COALESCE(c.webhook_events, '{{{WebhookEvent.COMPLETED}}}'))
    AND NOT (e.event IN {WHILE_RUNNING} AND EXISTS (
      SELECT FROM webhook_deliveries d
      WHERE d.prediction_id = c.id AND d.event = e.event
        AND d.state <> ALL ('{{delivered,failed}}')))
  ON CONFLICT DO NOTHING
  RETURNING 1
)"""  # noqa: S608 - constants of ours
