"""Claims due webhook deliveries, so that one process sends each.

A claim expires: deliveries of a killed process are then claimed by another and sent again.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine, text

from inference_contract import values
from inference_gateway.webhooks.retry import Next, Receipt

MOST = 64
"""Requests under way at once."""
_PER_OWNER = 16
_PER_RECEIVER = 8
"""Concurrent requests of one owner to one receiver: a hanging one leaves others of the owner
free."""
_SLOW_TOTAL = 32
"""Concurrent requests of all owners with slow receivers together: the other half stays free."""
_LATER_SECONDS = 1.0
"""Seconds until a large delivery that could not be read (others are read, or no space) is
retried."""
_MARGIN_SECONDS = 5.0
"""How long a claim lasts beyond the request's deadline, for the database and a slow resolver.
Short, as the deliveries of a killed process wait so long; one that is sent twice has the same
id."""

_ORIGIN = "COALESCE(substring(url FROM '^[a-z]+://[^/?#]+'), '')"
# By owner, in the order of the index, so that a long backlog of one owner does not delay others.
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


class Receiver(NamedTuple):
    """An address, separately for each owner."""

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
    """The origin, as in the query; empty for an invalid URL."""
    found = re.match(r"[a-z]+://[^/?#]+", url)
    return found[0] if found else ""


def _by_owner(active: Mapping[Receiver, int]) -> Counter[UUID]:
    """Running requests of each owner."""
    of = Counter[UUID]()
    for receiver, count in active.items():
        of[receiver.owner] += count
    return of


def choose(
    due: Iterable[tuple[UUID, Receiver]],
    active: Mapping[Receiver, int],
    slow: Collection[UUID] = (),
) -> list[UUID]:
    """Which deliveries to send now: owners with the fewest running requests come first.

    Args:
        due: deliveries, oldest first.
        active: running requests.
        slow: owners with slow receivers.
    """
    at, of = Counter(active), _by_owner(active)
    waiting: dict[UUID, deque[tuple[UUID, Receiver]]] = {}
    for delivery, receiver in due:
        waiting.setdefault(receiver.owner, deque()).append((delivery, receiver))
    chosen: list[UUID] = []
    while waiting and of.total() < MOST:
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


class Claims:
    """Claims rows of the table of deliveries.

    Args:
        hold_seconds: how long a request may take.
    """

    def __init__(self, engine: Engine, *, hold_seconds: float) -> None:
        self._engine = engine
        self._hold_seconds = hold_seconds + _MARGIN_SECONDS

    def take(self, active: Mapping[Receiver, int], slow: Collection[UUID] = ()) -> list[Claimed]:
        """Claim the next deliveries (see `choose`)."""
        of = _by_owner(active)
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
        return sorted(claimed, key=lambda one: place[one.id])

    def put_back(self, ids: list[UUID]) -> None:
        """Undo claims; the deliveries are due again after their owners' small ones."""
        with self._engine.begin() as connection:
            connection.execute(_PUT_BACK, {"ids": ids, "delay": _LATER_SECONDS})

    def mark(self, delivery: UUID, answer: Receipt, following: Next) -> None:
        """Store the outcome of an attempt, unless another process has delivered it since."""
        parameters = {
            "id": delivery,
            "state": following.state.value,
            "status": answer.status,
            "error": None if answer.error is None else values.text(answer.error),
            "delay": following.delay,
        }
        with self._engine.begin() as connection:
            connection.execute(_MARK, parameters)
