"""What a status says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inference_contract.inferencemodel import ConditionType, InferenceModelStatus, Reason
from inference_contract.pods import RunnerPhase
from inference_operator.local.conditions import View, status
from inference_operator.local.failures import Failure
from inference_operator.local.runners import Runner
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load

NOW = 1000.0
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
READY = Runner("alice/m", 0, "r", "h", NOW - 12, 30, RunnerPhase.READY, ready_since=NOW - 5)
LOADING = replace(READY, slot=1, phase=RunnerPhase.LOADING, ready_since=None)
DRAINING = replace(READY, slot=2, stop_by=NOW + 9)
LOAD_FAILED = Failure("h", Reason.LOAD_FAILED, "no such file: /m", 3, NOW - 1, ("a", "b"))
CRASHED = Failure("h", Reason.CRASH_LOOP_BACK_OFF, "the runner died", 1, NOW - 0.5, ("c",))
CRASHING = replace(CRASHED, count=5)


def _view(wanted: int = 1, why: Why = Why.STEADY, **changes: Any) -> View:
    view = View(generation=7, now=NOW, decision=Decision(wanted, why), load=Load(0, 0))
    return replace(view, **changes)


def _verdict(view: View, type: ConditionType) -> tuple[str, str, str]:
    found = status(view, None, AT).condition(type)
    assert found
    assert found.observed_generation == 7
    return found.status.value, found.reason, found.message


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (_view(runners=[READY]), ("True", "Ready", "1 of 1 replicas ready")),
        (_view(2, runners=[READY, LOADING]), ("True", "Ready", "1 of 2 replicas ready")),
        (
            _view(2, runners=[READY], failures=[CRASHING]),
            ("True", "Ready", "1 of 2 replicas ready; the runner died, next start in 15 s"),
        ),
        (
            _view(2, runners=[READY], is_refused=True),
            ("True", "Ready", "1 of 2 replicas ready; every runner that this machine has room for, "
             "or your share of them, is in use: lower another model's minReplicas, or raise "
             "LOCAL_MAX_RUNNERS"),
        ),
        (_view(runners=[LOADING]), ("False", "LoadingModel", "loading since 12 s")),
        (
            _view(runners=[replace(LOADING, started=NOW - 99)]),
            ("False", "LoadingModel", "loading since 90 s"),
        ),
        (
            _view(runners=[DRAINING]),
            ("False", "LoadingModel", "waiting for 1 old runners to finish their predictions"),
        ),
        (
            _view(failures=[CRASHED]),
            ("False", "LoadingModel", "the runner died; next start in 1 s"),
        ),
        (
            _view(0),
            (
                "Unknown",
                "ScaledToZero",
                "starts with the first prediction, which shows whether it loads",
            ),
        ),
        (
            _view(0, runners=[DRAINING]),
            ("Unknown", "ScaledToZero", "stopping; starts with the next prediction"),
        ),
        (
            _view(failures=[CRASHED, LOAD_FAILED]),
            ("False", "LoadFailed", "no such file: /m; next start in 3 s"),
        ),
        (
            _view(runners=[LOADING], failures=[replace(LOAD_FAILED, at=NOW - 60)]),
            ("False", "LoadFailed", "no such file: /m; starting again"),
        ),
        (
            _view(0, failures=[LOAD_FAILED]),
            ("False", "LoadFailed", "no such file: /m; tries again with the next prediction"),
        ),
        (
            _view(failures=[CRASHING]),
            ("False", "CrashLoopBackOff", "the runner died; next start in 15 s"),
        ),
        (
            _view(is_refused=True),
            ("False", "NoCapacity", "every runner that this machine has room for, or your share of "
             "them, is in use: lower another model's minReplicas, or raise LOCAL_MAX_RUNNERS"),
        ),
        (
            _view(decision=None, invalid="spec.x: no"),
            ("False", "InvalidModel", "correct the document: spec.x: no"),
        ),
        (
            _view(runners=[READY], invalid="spec.x: no"),
            ("False", "InvalidModel",
             "correct the document: spec.x: no (the last valid document stays in force)"),
        ),
    ],
)  # fmt: skip
def test_ready(view: View, expected: tuple[str, str, str]) -> None:
    assert _verdict(view, ConditionType.READY) == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (_view(runners=[READY]), ("False", "Stable")),
        (_view(0), ("False", "Stable")),
        (_view(2, runners=[READY, LOADING]), ("True", "LoadingModel")),
        (_view(2, runners=[READY]), ("True", "Starting")),
        (_view(2, runners=[READY], is_refused=True), ("False", "NoCapacity")),
        (_view(runners=[READY, DRAINING]), ("True", "Draining")),
        (_view(decision=None, invalid="x"), ("False", "InvalidModel")),
    ],
)
def test_progressing(view: View, expected: tuple[str, str]) -> None:
    assert _verdict(view, ConditionType.PROGRESSING)[:2] == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (_view(3, Why.SCALE_UP), ("True", "ScaleUp", "3 replicas wanted")),
        (
            _view(3, Why.UNKNOWN, load=None),
            ("Unknown", "LoadUnknown",
             "replicas stay at 3 until Redis says what the load is"),
        ),
        (
            _view(decision=None, invalid="x"),
            ("False", "InvalidModel", "does not scale until the document is valid"),
        ),
    ],
)  # fmt: skip
def test_scaling_active(view: View, expected: tuple[str, str, str]) -> None:
    assert _verdict(view, ConditionType.SCALING_ACTIVE) == expected


def test_the_numbers() -> None:
    found = status(_view(runners=[READY, LOADING, DRAINING], load=Load(5, 3)), None, AT)
    assert (found.replicas, found.ready_replicas) == (3, 1)
    assert (found.queued, found.in_flight, found.observed_generation) == (5, 3, 7)


def test_the_last_known_load_stays_while_redis_is_away() -> None:
    before = status(_view(load=Load(5, 3)), None, AT)
    found = status(_view(why=Why.UNKNOWN, load=None), before, AT)
    assert (found.queued, found.in_flight) == (5, 3)


def test_the_log_of_the_failure_that_is_told() -> None:
    assert status(_view(failures=[CRASHED, LOAD_FAILED]), None, AT).log_tail == ["a", "b"]
    assert status(_view(runners=[READY]), None, AT).log_tail == []


def _since(found: InferenceModelStatus) -> datetime | None:
    condition = found.condition(ConditionType.READY)
    assert condition
    return condition.last_transition_time


def test_transition_time_moves_when_the_status_flips_and_only_then() -> None:
    loading = status(_view(runners=[LOADING]), None, AT)
    failed = status(_view(failures=[LOAD_FAILED]), loading, AT + timedelta(seconds=5))
    ready = status(_view(runners=[READY]), failed, AT + timedelta(seconds=9))
    assert [_since(s) for s in (loading, failed, ready)] == [AT, AT, AT + timedelta(seconds=9)]


def test_a_long_message_is_cut() -> None:
    failure = replace(LOAD_FAILED, message="x" * 9000)
    assert len(_verdict(_view(failures=[failure]), ConditionType.READY)[2]) == 4000


def test_who_waits_for_ready_waits_until_it_has_loaded_once() -> None:
    ready = status(_view(runners=[READY]), None, AT)
    asleep = status(_view(0), ready, AT).condition(ConditionType.READY)
    assert asleep
    assert (asleep.status, asleep.message) == ("True", "starts with the next prediction")
    changed = status(replace(_view(0), generation=8), ready, AT).condition(ConditionType.READY)
    assert changed
    assert changed.status == "Unknown"
