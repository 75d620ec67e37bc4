from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from inference_contract.predictions import ErrorCode, PredictionStatus
from inference_gateway.dispatch.recovery.rules import (
    MOST_ATTEMPTS,
    Cause,
    HandOut,
    JobState,
    OpenRow,
    Recovery,
    on_overdue,
    on_starting,
)
from inference_gateway.lifecycle.cancel import Ending

UNTIL = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW = OpenRow(
    id=uuid.UUID(int=1),
    model="a/b",
    status="starting",
    attempt=1,
    token="t",
    crashes=0,
    cancel_requested=False,
    lease_until=UNTIL,
)
ENDING = Ending(
    id=str(ROW.id),
    model="a/b",
    attempt=1,
    token="t",
    outcome=PredictionStatus.CANCELED,
    error_code=ErrorCode.CANCELED,
    error=None,
    if_silent=True,
    lease_until=UNTIL,
    may_have_output=True,
)
HAND_OUT = HandOut(str(ROW.id), "a/b", 1, "t", Cause.LOST, UNTIL)


def told(recovery: Recovery | None) -> str | None:
    if isinstance(recovery, HandOut):
        return recovery.reason.value
    return recovery.error_code.value if recovery else None


@pytest.mark.parametrize(
    ("job", "crashes", "cancel", "recovery"),
    [
        (JobState.QUEUED, 0, False, None),
        (JobState.STARTED, 2, False, None),
        (JobState.STARTED, 0, True, None),
        (JobState.MISSING, 0, False, "lost"),
        (JobState.MISSING, 2, False, "lost"),
        (JobState.MISSING, 0, True, "canceled"),
        (JobState.REMOVED, 0, True, "canceled"),
        (JobState.DEAD, 0, False, "crashed"),
        (JobState.DEAD, 1, False, "crashed"),
        (JobState.DEAD, 2, False, "runner_crashed"),
        (JobState.DEAD, 0, True, "canceled"),
    ],
)
def test_on_starting(job: JobState, crashes: int, cancel: bool, recovery: str | None) -> None:
    row = replace(ROW, crashes=crashes, cancel_requested=cancel)
    assert told(on_starting(row, job, max_attempts=3, leases_unreliable=False)) == recovery


@pytest.mark.parametrize(
    ("late", "lease_ended", "crashes", "cancel", "recovery"),
    [
        (False, False, 0, True, None),
        (False, True, 0, False, "crashed"),
        (False, True, 2, False, "runner_crashed"),
        (False, True, 2, True, "canceled"),
        (True, False, 0, False, "deadline_exceeded"),
        (True, True, 0, False, "deadline_exceeded"),
        (True, True, 2, True, "deadline_exceeded"),
    ],
)
def test_on_overdue(
    late: bool, lease_ended: bool, crashes: int, cancel: bool, recovery: str | None
) -> None:
    row = replace(ROW, late=late, lease_ended=lease_ended, crashes=crashes, cancel_requested=cancel)
    assert told(on_overdue(row, max_attempts=3, leases_unreliable=False)) == recovery


def test_while_nobody_counts_as_dead() -> None:
    row = replace(ROW, lease_ended=True)
    assert on_starting(row, JobState.DEAD, max_attempts=3, leases_unreliable=True) is None
    assert on_overdue(row, max_attempts=3, leases_unreliable=True) is None
    assert (
        told(on_starting(row, JobState.MISSING, max_attempts=3, leases_unreliable=True)) == "lost"
    )
    late = replace(row, late=True)
    assert told(on_overdue(late, max_attempts=3, leases_unreliable=True)) == "deadline_exceeded"


def test_while_redis_has_just_forgotten() -> None:
    row = replace(ROW, lease_ended=True, crashes=2)
    canceled = replace(row, cancel_requested=True)
    for silent, recovery in ((row, "lost"), (canceled, "canceled")):
        dead = on_starting(
            silent, JobState.DEAD, max_attempts=3, leases_unreliable=False, ends_may_be_lost=True
        )
        overdue = on_overdue(silent, max_attempts=3, leases_unreliable=False, ends_may_be_lost=True)
        assert (told(dead), told(overdue)) == (recovery, recovery)
    assert on_overdue(row, max_attempts=3, leases_unreliable=True, ends_may_be_lost=True) is None


@pytest.mark.parametrize(
    ("changes", "max_attempts", "ends_may_be_lost", "recovery"),
    [
        ({}, 3, True, HAND_OUT),
        ({}, 3, False, replace(HAND_OUT, reason=Cause.CRASHED)),
        ({"cancel_requested": True}, 3, True, ENDING),
        ({"cancel_requested": True}, 3, False, ENDING),
        (
            {"late": True},
            3,
            False,
            # Its runner may still be heard of: the deadline does not wait for its silence.
            replace(
                ENDING,
                error_code=ErrorCode.DEADLINE,
                error="It did not finish before its deadline.",
                if_silent=False,
            ),
        ),
        (
            {},
            1,
            False,
            replace(
                ENDING,
                outcome=PredictionStatus.FAILED,
                error_code=ErrorCode.CRASHED,
                error="Its runner died once while running it.",
            ),
        ),
        (
            {"crashes": 2},
            3,
            False,
            replace(
                ENDING,
                outcome=PredictionStatus.FAILED,
                error_code=ErrorCode.CRASHED,
                error="Its runner died 3 times while running it.",
            ),
        ),
        (
            {"attempt": MOST_ATTEMPTS - 1},
            3,
            True,
            replace(HAND_OUT, attempt=MOST_ATTEMPTS - 1),
        ),
        (
            {"attempt": MOST_ATTEMPTS},
            3,
            True,
            replace(
                ENDING,
                attempt=MOST_ATTEMPTS,
                outcome=PredictionStatus.FAILED,
                error_code=ErrorCode.UNDELIVERED,
                error="It was handed out 100 times, and no runner of its model ran it.",
            ),
        ),
    ],
)
def test_what_is_written_of_it(
    changes: dict[str, Any], max_attempts: int, ends_may_be_lost: bool, recovery: Recovery
) -> None:
    row = replace(ROW, lease_ended=True, **changes)
    found = on_overdue(
        row, max_attempts, leases_unreliable=False, ends_may_be_lost=ends_may_be_lost
    )
    assert found == recovery


def test_unless_it_is_said_no_end_was_lost() -> None:
    silent = replace(ROW, lease_ended=True)
    assert told(on_starting(silent, JobState.DEAD, 3, leases_unreliable=False)) == "crashed"
    assert told(on_overdue(silent, 3, leases_unreliable=False)) == "crashed"
