"""The recovery of open predictions: pure decisions, used by relay and sweeper."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from inference_contract.predictions import ErrorCode, PredictionStatus
from inference_gateway.lifecycle.cancel import Ending


class JobState(StrEnum):
    """A prediction's job in Redis."""

    QUEUED = "queued"
    STARTED = "started"
    """A runner has claimed it, and its lease is valid."""
    DEAD = "dead"
    """A runner had claimed it, and its lease has expired."""
    MISSING = "missing"
    """Never enqueued, lost, or just finished."""
    REMOVED = "removed"
    """It was waiting and has been taken off the queue."""


class Cause(StrEnum):
    LOST = "lost"
    CRASHED = "crashed"


@dataclass(frozen=True)
class OpenRow:
    """An open prediction, as relay and sweeper read it."""

    id: UUID
    model: str
    status: str
    attempt: int
    token: str
    crashes: int
    cancel_requested: bool
    late: bool = False
    """Past its deadline."""
    lease_ended: bool = False
    lease_until: datetime | None = None


@dataclass(frozen=True)
class HandOut:
    """Start a new attempt, if the row is still open and has this attempt and lease."""

    id: str
    model: str
    attempt: int
    token: str
    reason: Cause
    lease_until: datetime | None = None


Recovery = Ending | HandOut

MOST_ATTEMPTS = 100
"""A loss of Redis' data costs one attempt. A prediction that is lost so often has a cause of its
own, such as a model that damages its queue."""


def on_starting(
    row: OpenRow,
    job: JobState,
    max_attempts: int,
    *,
    leases_unreliable: bool,
    ends_may_be_lost: bool = False,
) -> Recovery | None:
    """The recovery of a waiting row; None if it needs none.

    Args:
        leases_unreliable: expired leases mean nothing now.
        ends_may_be_lost: its end may have been sent to Redis and lost there.
    """
    if job in (JobState.QUEUED, JobState.STARTED):
        return None
    if job is JobState.DEAD:
        return (
            None
            if leases_unreliable
            else _on_silence(row, max_attempts, ends_may_be_lost=ends_may_be_lost)
        )
    return _on_loss(row)


def on_overdue(
    row: OpenRow, max_attempts: int, *, leases_unreliable: bool, ends_may_be_lost: bool = False
) -> Recovery | None:
    """The recovery of a row past its deadline or lease; None: only its runner can end it.

    Args:
        leases_unreliable: expired leases mean nothing now.
        ends_may_be_lost: its end may have been sent to Redis and lost there.
    """
    if row.late:
        error = "It did not finish before its deadline."
        code = ErrorCode.DEADLINE
        return _end(row, PredictionStatus.CANCELED, code, error, if_silent=False)
    if row.lease_ended and not leases_unreliable:
        return _on_silence(row, max_attempts, ends_may_be_lost=ends_may_be_lost)
    return None


def _on_silence(row: OpenRow, max_attempts: int, *, ends_may_be_lost: bool) -> Recovery:
    return _on_loss(row) if ends_may_be_lost else _on_crash(row, max_attempts)


def _on_loss(row: OpenRow) -> Recovery:
    if row.cancel_requested:
        return _end(row, PredictionStatus.CANCELED, ErrorCode.CANCELED, None)
    return _hand_out(row, Cause.LOST)


def _on_crash(row: OpenRow, max_attempts: int) -> Recovery:
    if row.cancel_requested:
        return _end(row, PredictionStatus.CANCELED, ErrorCode.CANCELED, None)
    crashes = row.crashes + 1
    if crashes >= max_attempts:
        times = "once" if crashes == 1 else f"{crashes} times"
        error = f"Its runner died {times} while running it."
        return _end(row, PredictionStatus.FAILED, ErrorCode.CRASHED, error)
    return _hand_out(row, Cause.CRASHED)


def _end(
    row: OpenRow,
    outcome: PredictionStatus,
    code: ErrorCode,
    error: str | None,
    *,
    if_silent: bool = True,
) -> Ending:
    return Ending(
        id=str(row.id),
        model=row.model,
        attempt=row.attempt,
        token=row.token,
        outcome=outcome,
        error_code=code,
        error=error,
        if_silent=if_silent,
        lease_until=row.lease_until,
        may_have_output=True,
    )


def _hand_out(row: OpenRow, reason: Cause) -> Recovery:
    if row.attempt >= MOST_ATTEMPTS:
        error = f"It was handed out {row.attempt} times, and no runner of its model ran it."
        return _end(row, PredictionStatus.FAILED, ErrorCode.UNDELIVERED, error)
    return HandOut(
        id=str(row.id),
        model=row.model,
        attempt=row.attempt,
        token=row.token,
        reason=reason,
        lease_until=row.lease_until,
    )
