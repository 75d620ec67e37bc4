"""Records what clients, streams and receivers got while a campaign runs."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cases import End


@dataclass(frozen=True)
class Claim:
    """An answer, stream or webhook with the end of a prediction."""

    prediction: str
    source: str
    """wait, get, stream, list, cancel or webhook."""
    end: End
    compares: str = "all"
    """`all`, or `status` if the source does not contain the output."""


@dataclass
class Call:
    """A prediction as its caller sees it."""

    number: int
    case: str
    text: str
    key: str | None
    """Idempotency key."""
    webhook: str | None = None
    """The receiver's mood."""
    cancels: bool = False
    accepted: set[str] = field(default_factory=set)
    """Ids in its answers: exactly one is correct."""
    nothing_stored: bool = False
    """The last answer said that nothing was stored, and it was not sent again."""


@dataclass(frozen=True)
class Delivery:
    """A webhook as it arrived."""

    webhook_id: str
    prediction: str
    end: End


@dataclass(frozen=True)
class Death:
    """A fault that ended a runner, or stopped it for longer than a lease. Unix seconds."""

    began: float
    ended: float


class Ledger:
    """Any thread may write; read it when all have ended."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.claims: list[Claim] = []
        self.deliveries: list[Delivery] = []
        self.complaints: list[str] = []
        """Record an answer that must never occur."""
        self.deaths: list[Death] = []
        self.counts: Counter[str] = Counter()
        self.history: list[str] = []
        """Faults and complaints as they came, with their times as logs have them."""
        self._lock = threading.Lock()

    def call(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def claim(self, claim: Claim) -> None:
        with self._lock:
            self.claims.append(claim)
            self.counts[f"told by {claim.source}"] += 1

    def deliver(self, delivery: Delivery) -> None:
        with self._lock:
            self.deliveries.append(delivery)
            self.counts["told by webhook"] += 1

    def complain(self, what: str) -> None:
        with self._lock:
            self.complaints.append(what)
        self.happens(f"complaint: {what}")

    def happens(self, what: str) -> None:
        with self._lock:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.history.append(f"{now} {what}")

    def die(self, death: Death) -> None:
        with self._lock:
            self.deaths.append(death)

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1
