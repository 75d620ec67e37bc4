"""Deliveries that are due → their receivers. At least once: one that was sent, and not marked
because we were killed, is sent again under the same id.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Engine, text

from inference_contract import values
from inference_gateway.background import set_aside
from inference_gateway.lifecycle.wire import Row
from inference_gateway.postgres import stored
from inference_gateway.webhooks import metrics, signing
from inference_gateway.webhooks.reading import Content, NoRoom
from inference_gateway.webhooks.retry import DeliveryState, Receipt, conclude
from inference_gateway.webhooks.sending import Sender

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5
_TOTAL = 64
_PER_OWNER = 16
_PER_RECEIVER = 8
"""At once, for one owner: a receiver that hangs leaves room for the owner's others."""
_SLOW_TOTAL = 32
"""For all owners together whose receivers keep us waiting: the other half stays free."""
_SLOW_SECONDS = 2.0
_SLOW_FOR = 300.0
"""So long an owner counts as slow after a receiver of theirs took more than `_SLOW_SECONDS`."""
_LATER_SECONDS = 1.0
"""Until a large one is claimed again that found others being read, or no room."""
_MARGIN_SECONDS = 5.0
"""What a claim lasts beyond the request's deadline, for the database and a slow resolver. Short, as
it is how long that waits which a killed process had claimed; what is sent twice has the same id."""

_ORIGIN = "COALESCE(substring(url FROM '^[a-z]+://[^/?#]+'), '')"
# By owner, as the index has them, so that a long backlog of one hides nobody else's.
_DUE = text(f"""
WITH RECURSIVE owners AS (
  (SELECT owner FROM webhook_deliveries WHERE state = 'pending' ORDER BY owner LIMIT 1)
  UNION ALL
  SELECT (SELECT d.owner FROM webhook_deliveries d
    WHERE d.state = 'pending' AND d.owner > o.owner ORDER BY d.owner LIMIT 1)
  FROM owners o WHERE o.owner IS NOT NULL
)
SELECT due.id, due.owner, due.origin FROM owners o CROSS JOIN LATERAL (
  SELECT id, owner, {_ORIGIN} AS origin, next_attempt_at FROM webhook_deliveries
  WHERE state = 'pending' AND owner = o.owner AND next_attempt_at <= now()
    AND owner || ' ' || {_ORIGIN} <> ALL (:busy)
  ORDER BY next_attempt_at LIMIT {_PER_OWNER}) due
WHERE o.owner <> ALL (CAST(:full AS uuid[]))
ORDER BY due.next_attempt_at
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
RETURNING d.id, d.prediction_id, d.owner, d.url, d.attempts
""")
_PUT_BACK = text("""
UPDATE webhook_deliveries
SET attempts = attempts - 1, next_attempt_at = now() + make_interval(secs => :delay)
WHERE id = ANY (:ids) AND state = 'pending'
""")
_MARK = text("""
UPDATE webhook_deliveries
SET state = :state, last_status = :status, last_error = :error,
    next_attempt_at = now() + make_interval(secs => :delay),
    delivered_at = CASE WHEN :state = 'delivered' THEN now() END
WHERE id = :id AND state = 'pending'
""")

Render = Callable[[Row], Mapping[str, Any]]
"""A row of `predictions` → the body of a webhook."""


class Receiver(NamedTuple):
    """One owner's: what others send to the same address is not their concern."""

    owner: UUID
    origin: str


class Claimed(NamedTuple):
    id: UUID
    prediction_id: UUID
    owner: UUID
    url: str
    attempt: int

    @property
    def receiver(self) -> Receiver:
        return Receiver(self.owner, origin(self.url))


def origin(url: str) -> str:
    """As the query has it; empty, if it is no URL that we would take."""
    found = re.match(r"[a-z]+://[^/?#]+", url)
    return found[0] if found else ""


def choose(
    due: Iterable[tuple[UUID, Receiver]],
    active: Mapping[Receiver, int],
    slow: Collection[UUID] = (),
) -> list[UUID]:
    """Which deliveries to send now: to those owners first who have the least under way.

    Args:
        due: deliveries, oldest first.
        active: requests under way.
        slow: owners whose receivers have kept us waiting.
    """
    at = Counter(active)
    of = Counter[UUID]()
    for receiver, count in active.items():
        of[receiver.owner] += count
    waiting: dict[UUID, deque[tuple[UUID, Receiver]]] = {}
    for delivery, receiver in due:
        waiting.setdefault(receiver.owner, deque()).append((delivery, receiver))
    chosen: list[UUID] = []
    while waiting and of.total() < _TOTAL:
        owner = min(waiting, key=lambda owner: of[owner])
        slow_ones = sum(of[one] for one in slow)
        if of[owner] >= _PER_OWNER or (owner in slow and slow_ones >= _SLOW_TOTAL):
            del waiting[owner]
            continue
        delivery, receiver = waiting[owner].popleft()
        if not waiting[owner]:
            del waiting[owner]
        if at[receiver] < _PER_RECEIVER:
            at[receiver] += 1
            of[owner] += 1
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
        self._content = Content(engine)
        self._sender = sender
        self._render = render
        self._hold_seconds = hold_seconds + _MARGIN_SECONDS
        self._wake = wake
        self._threads = ThreadPoolExecutor(_TOTAL, thread_name_prefix="webhook")
        self._lock = threading.Lock()
        self._active: Counter[Receiver] = Counter()
        self._slow: dict[UUID, float] = {}
        """Owner → until when they count as slow, by the monotonic clock."""

    def step(self) -> float:
        """Claim what is due and hand it to the threads."""
        with self._lock:
            active = +self._active
        slow = self._slow_owners()
        if active.total() < _TOTAL:
            later = []
            for claimed, row in self._claim(active, slow):
                if row is None or row["is_small"] or self._content.enter(claimed.owner):
                    with self._lock:
                        self._active[claimed.receiver] += 1
                    self._threads.submit(self._deliver, claimed, row)
                else:
                    later.append(claimed.id)
            if later:
                self._put_back(later)
        return _POLL_SECONDS

    def _slow_owners(self) -> set[UUID]:
        with self._lock:
            now = time.monotonic()
            self._slow = {owner: until for owner, until in self._slow.items() if until > now}
            return set(self._slow)

    def close(self) -> None:
        """Without waiting: what is under way is sent again by whoever comes next."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _claim(
        self, active: Mapping[Receiver, int], slow: Collection[UUID]
    ) -> list[tuple[Claimed, Row | None]]:
        of = Counter[UUID]()
        for receiver, count in active.items():
            of[receiver.owner] += count
        busy = [f"{r.owner} {r.origin}" for r, count in active.items() if count >= _PER_RECEIVER]
        full = [str(owner) for owner, count in of.items() if count >= _PER_OWNER]
        with self._engine.begin() as connection:
            looked = connection.execute(_DUE, {"busy": busy, "full": full})
            due = [(delivery, Receiver(owner, where)) for delivery, owner, where in looked]
            ids = choose(due, active, slow)
            if not ids:
                return []
            rows = connection.execute(_CLAIM, {"ids": ids, "hold": self._hold_seconds})
            claimed = [Claimed(*row) for row in rows]
        place = {delivery: at for at, delivery in enumerate(ids)}
        claimed.sort(key=lambda one: place[one.id])
        found = self._content.together({one.prediction_id for one in claimed})
        return [(one, found.get(one.prediction_id)) for one in claimed]

    def _put_back(self, ids: list[UUID]) -> None:
        """Behind what their owners have that is small, as if they had not been claimed."""
        with self._engine.begin() as connection:
            connection.execute(_PUT_BACK, {"ids": ids, "delay": _LATER_SECONDS})

    def _deliver(self, claimed: Claimed, row: Row | None) -> None:
        held = 0
        try:
            if row is not None and not row["is_small"]:
                row, held = self._content.large(row, self._slow_owners())
                self._wake.set()  # for the next large one
            answer = self._attempt(claimed, row)
            self._mark(claimed, answer)
        except NoRoom:
            self._put_back([claimed.id])
        except Exception:  # its claim runs out, and it is sent again
            _log.exception("a webhook could not be read or marked", extra=_story(claimed))
        finally:
            self._content.give(claimed.owner, held)
            with self._lock:
                self._active[claimed.receiver] -= 1
            self._wake.set()

    def _attempt(self, claimed: Claimed, row: Row | None) -> Receipt:
        began = time.monotonic()
        try:
            return self._send(claimed, row)
        except Exception as error:  # whatever it is, its attempts must come to an end
            _log.exception("a webhook could not be sent", extra=_story(claimed))
            return Receipt(error=f"{type(error).__name__}: {error}")
        finally:
            if (now := time.monotonic()) - began > _SLOW_SECONDS:
                with self._lock:
                    self._slow[claimed.owner] = now + _SLOW_FOR

    def _send(self, claimed: Claimed, row: Row | None) -> Receipt:
        if row is None:
            return Receipt(error="the account is gone", final=True)
        try:
            body = stored.in_pieces(self._render(row))
        except Exception as error:  # tried again, it would fail again
            set_aside.ITEMS.labels("webhooks").inc()
            _log.exception("a prediction cannot be sent", extra=_story(claimed))
            return Receipt(error=f"the prediction cannot be sent: {error}", final=True)
        message = signing.message_id(claimed.id)
        headers = signing.headers(row["webhook_secret"], message, int(time.time()), body)
        return self._sender.send(claimed.url, headers, body, trusted=row["is_admin"])

    def _mark(self, claimed: Claimed, answer: Receipt) -> None:
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
        metrics.ATTEMPTS.labels(following.state.value).inc()
        if following.state is not DeliveryState.DELIVERED:
            _log.warning(
                "webhook %s: %s", following.state.value, answer.error, extra=_story(claimed)
            )


def _story(claimed: Claimed) -> dict[str, object]:
    return {"prediction": str(claimed.prediction_id), "delivery": str(claimed.id)}
