"""The SQL that every statement shares which writes what became of an attempt."""

from __future__ import annotations

from inference_contract.webhooks import WHILE_RUNNING, WebhookEvent

# Who may write: the current attempt, while its row is open. `v` are the changes, `p` the table.
# `completed_at IS NULL` says the same as the predicate of the index of open rows (a CHECK ties the
# two), but in words that the planner cannot match with it: for a lookup by id that index looks
# cheap on an almost empty table, and is full of dead entries in a busy one.
OPEN_ATTEMPT = """
p.id = v.id AND p.attempt = v.attempt AND p.token = v.token AND p.completed_at IS NULL"""
# The array lets every plan begin with the primary key.
FENCE = f"""
p.id = ANY (ARRAY (SELECT id FROM v)) AND {OPEN_ATTEMPT}"""  # noqa: S608 - constants of ours

# Webhook deliveries of the rows that a statement has just changed, made by that same statement.
# The common table `changed` has id, webhook, webhook_events and `events`: what happened to the row.
# Without a filter only the end is told. While an `output` or `logs` waits to be sent, a
# second one is not needed: the newest state is sent. (The odd condition on `state` again keeps the
# planner off a partial index, that of pending deliveries, which a dead receiver makes long.)
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
