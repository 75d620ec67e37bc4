"""Deliveries that are due → their receivers. At least once: one that was sent, and not marked
because we were killed, is sent again under the same id.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from inference_contract import values
from inference_gateway.dispatch import metrics
from inference_gateway.webhooks import signing
from inference_gateway.webhooks.retry import Answer, State, conclude
from inference_gateway.webhooks.sending import Sender

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5
_LOOK_AHEAD = 500
"""Due deliveries looked at to find some for receivers that are not busy."""
_TOTAL = 32
_PER_RECEIVER = 8
"""At once: a receiver that hangs holds no more than these."""
_MARGIN_SECONDS = 5.0
"""What a claim lasts beyond the request's deadline, for the database and a slow resolver. Short, as
it is how long that waits which a killed process had claimed; what is sent twice has the same id."""

_ORIGIN = "COALESCE(substring(url FROM '^[a-z]+://[^/?#]+'), '')"
_DUE = text(f"""
SELECT id, {_ORIGIN} AS origin FROM webhook_deliveries
WHERE state = 'pending' AND next_attempt_at <= now() AND {_ORIGIN} <> ALL (:busy)
ORDER BY next_attempt_at
LIMIT :look_ahead
""")  # noqa: S608 - constants of ours
_CLAIM = text("""
UPDATE webhook_deliveries d
SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => :hold)
FROM (
  SELECT id FROM webhook_deliveries
  WHERE id = ANY (:ids) AND state = 'pending' AND next_attempt_at <= now()
  FOR UPDATE SKIP LOCKED
) due
WHERE d.id = due.id
RETURNING d.id, d.prediction_id, d.url, d.attempts
""")
_READ = text("""
SELECT p.*, u.webhook_secret
FROM predictions p JOIN users u ON u.id = p.owner AND u.deleted_at IS NULL
WHERE p.id = ANY (:ids)
""")
_MARK = text("""
UPDATE webhook_deliveries
SET state = :state, last_status = :status, last_error = :error,
    next_attempt_at = now() + make_interval(secs => :delay),
    delivered_at = CASE WHEN :state = 'delivered' THEN now() END
WHERE id = :id AND state = 'pending'
""")

Render = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A row of `predictions` → the body of a webhook."""


class Claimed(NamedTuple):
    id: UUID
    prediction_id: UUID
    url: str
    attempt: int


def origin(url: str) -> str:
    """As the query has it; empty, if it is no URL that we would take."""
    found = re.match(r"[a-z]+://[^/?#]+", url)
    return found[0] if found else ""


def choose(due: Sequence[tuple[UUID, str]], active: Mapping[str, int], free: int) -> list[UUID]:
    """Which deliveries to send now, oldest first: at most `free`, and few to one receiver.

    Args:
        due: id and origin of deliveries.
        active: origin → requests under way.
    """
    count = Counter(active)
    chosen: list[UUID] = []
    for delivery, where in due:
        if len(chosen) >= free:
            break
        if count[where] < _PER_RECEIVER:
            count[where] += 1
            chosen.append(delivery)
    return chosen


class Delivery:
    """Args:
    wake: set by the recorder when there is something to send, and by us when there is more.
    """

    def __init__(
        self,
        engine: Engine,
        sender: Sender,
        render: Render,
        *,
        hold_seconds: float,
        wake: threading.Event,
    ) -> None:
        self._engine = engine
        self._sender = sender
        self._render = render
        self._hold_seconds = hold_seconds + _MARGIN_SECONDS
        self._wake = wake
        self._threads = ThreadPoolExecutor(_TOTAL, thread_name_prefix="webhook")
        self._lock = threading.Lock()
        self._active: Counter[str] = Counter()

    def step(self) -> float:
        """Claim what is due and hand it to the threads."""
        with self._lock:
            active = +self._active
        free = _TOTAL - active.total()
        if free > 0:
            for claimed, row in self._claim(active, free):
                with self._lock:
                    self._active[origin(claimed.url)] += 1
                self._threads.submit(self._deliver, claimed, row)
        return _POLL_SECONDS

    def close(self) -> None:
        """Without waiting: what is under way is sent again by whoever comes next."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _claim(
        self, active: Mapping[str, int], free: int
    ) -> list[tuple[Claimed, dict[str, Any] | None]]:
        busy = [where for where, count in active.items() if count >= _PER_RECEIVER]
        with self._engine.begin() as connection:
            looked = connection.execute(_DUE, {"busy": busy, "look_ahead": _LOOK_AHEAD})
            due = [(delivery, where) for delivery, where in looked]
            ids = choose(due, active, free)
            if not ids:
                return []
            rows = connection.execute(_CLAIM, {"ids": ids, "hold": self._hold_seconds})
            claimed = [Claimed(*row) for row in rows]
        with self._engine.begin() as connection:
            wanted = list({c.prediction_id for c in claimed})
            found = [row._asdict() for row in connection.execute(_READ, {"ids": wanted})]
        by_id = {row["id"]: row for row in found}
        return [(c, by_id.get(c.prediction_id)) for c in claimed]

    def _deliver(self, claimed: Claimed, row: dict[str, Any] | None) -> None:
        try:
            answer = self._send(claimed, row)
        except Exception as error:  # whatever it is, its attempts must come to an end
            _log.exception("a webhook could not be sent", extra=_story(claimed))
            answer = Answer(error=f"{type(error).__name__}: {error}")
        try:
            self._mark(claimed, answer)
        except Exception:  # its claim runs out, and it is sent again
            _log.exception("a webhook could not be marked", extra=_story(claimed))
        finally:
            with self._lock:
                self._active[origin(claimed.url)] -= 1
            self._wake.set()

    def _send(self, claimed: Claimed, row: dict[str, Any] | None) -> Answer:
        if row is None:
            return Answer(error="the account is gone", final=True)
        secret = row["webhook_secret"]
        try:
            body = orjson.dumps(self._render(row), default=str)
        except Exception as error:  # tried again, it would fail again
            metrics.SET_ASIDE.labels("webhooks").inc()
            _log.exception("a prediction cannot be sent", extra=_story(claimed))
            return Answer(error=f"the prediction cannot be sent: {error}", final=True)
        message = signing.message_id(claimed.id)
        headers = signing.headers(secret, message, int(time.time()), body)
        return self._sender.send(claimed.url, headers, body)

    def _mark(self, claimed: Claimed, answer: Answer) -> None:
        following = conclude(claimed.attempt, answer, random.random())
        with self._engine.begin() as connection:
            parameters = {
                "id": claimed.id,
                "state": following.state.value,
                "status": answer.status,
                "error": None if answer.error is None else values.text(answer.error),
                "delay": following.delay,
            }
            connection.execute(_MARK, parameters)
        metrics.WEBHOOKS.labels(following.state.value).inc()
        if following.state is not State.DELIVERED:
            _log.warning(
                "webhook %s: %s", following.state.value, answer.error, extra=_story(claimed)
            )


def _story(claimed: Claimed) -> dict[str, object]:
    return {"prediction": str(claimed.prediction_id), "delivery": str(claimed.id)}
