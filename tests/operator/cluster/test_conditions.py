"""What the status of a model says whose runners are pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inference_contract.inferencemodel import (
    ConditionType,
    InferenceModelStatus,
    Reason,
    RolloutStatus,
)
from inference_operator.cluster.conditions import PodView, refused, status
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.runner_pod import DownloadProgress, End, RunnerPod
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW = RunnerPod("p", "uid", "h")
PLACED = replace(NEW, node="n1")
LOADING = replace(PLACED, running_since="2026-01-02T03:04:00Z")
FETCHING = replace(LOADING, container="fetch")
HALF = replace(FETCHING, progress=DownloadProgress(43, 1_234_000_000))
READY = replace(LOADING, is_ready=True, is_started=True)
TERMINATING = replace(READY, terminating_until=AT)
LOST = replace(TERMINATING, name="q", is_ready=False, is_lost=True, running_since="")
STUCK = PodProblem(Reason.UNSCHEDULABLE, "no node takes the pod", NEW)
FAILED = PodProblem(Reason.LOAD_FAILED, "no such file", LOADING, ("a", "b"))
NO_REPO = PodProblem(
    Reason.LOAD_FAILED, "no such repository", replace(FETCHING, end=End(3, "", True))
)


UNHEARD = "pod q was to end, and nothing is heard of it from node n1"


def _view(wanted: int = 1, why: Why = Why.STEADY, **changes: Any) -> PodView:
    view = PodView(generation=7, decision=Decision(wanted, why), selector="s=1", hash="h")
    view = replace(view, deployment="m-runner")
    return replace(view, **{"load": Load(0, 0)} | changes)


def _verdict(view: PodView, type: ConditionType) -> tuple[str, str, str]:
    found = status(view, None, AT).condition(type)
    assert found
    assert found.observed_generation == 7
    return found.status.value, found.reason, found.message


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (
            _view(0),
            (
                "Unknown",
                "ScaledToZero",
                "starts with the first prediction, which shows whether it loads",
            ),
        ),
        (
            _view(0, pods=[TERMINATING]),
            ("Unknown", "ScaledToZero", "stopping; starts with the next prediction"),
        ),
        (
            _view(0, pods=[LOST]),
            (
                "Unknown",
                "ScaledToZero",
                "starts with the first prediction, which shows whether it loads",
            ),
        ),
        (
            _view(0, Why.EXTERNAL),
            ("Unknown", "ScaledToZero", "predictions wait until somebody scales the Deployment up"),
        ),
        (_view(), ("False", "Starting", "waiting for a node")),
        (_view(pods=[NEW]), ("False", "Starting", "waiting for a node")),
        (
            _view(pods=[PLACED]),
            ("False", "Starting", "node n1 prepares the container: its image, its volumes"),
        ),
        (
            _view(pods=[TERMINATING]),
            ("False", "Starting", "waiting for 1 old runners to finish their predictions"),
        ),
        (_view(pods=[LOADING]), ("False", "LoadingModel", "loading since 2026-01-02T03:04:00Z")),
        (
            _view(pods=[replace(LOADING, is_started=True)]),
            ("False", "NotReady", "the runner in pod p is up, and does not say that it is ready"),
        ),
        (_view(pods=[FETCHING], repo="a/b"), ("False", "DownloadingModel", "downloading a/b")),
        (
            _view(2, pods=[FETCHING, HALF], repo="a/b"),
            ("False", "DownloadingModel", "downloading a/b: 43 % of 1.2 GB"),
        ),
        (
            _view(2, pods=[HALF, LOADING], repo="a/b"),
            ("False", "LoadingModel", "loading since 2026-01-02T03:04:00Z"),
        ),
        (_view(pods=[READY]), ("True", "Ready", "1 of 1 replicas ready")),
        (_view(2, pods=[READY, LOADING]), ("True", "Ready", "1 of 2 replicas ready")),
        (
            _view(2, pods=[READY, NEW], problem=STUCK),
            ("True", "Ready", "1 of 2 replicas ready; Unschedulable: no node takes the pod"),
        ),
        (
            _view(2, pods=[READY], no_pods="exceeded quota: q"),
            (
                "True",
                "Ready",
                "1 of 2 replicas ready; NoCapacity: no pod can be made: exceeded quota: q",
            ),
        ),
        (_view(pods=[NEW], problem=STUCK), ("False", "Unschedulable", "no node takes the pod")),
        (
            _view(pods=[TERMINATING, NEW], problem=STUCK),
            ("False", "Starting", "waiting for 1 old runners to finish their predictions"),
        ),
        (
            _view(pods=[LOST, NEW], problem=STUCK),
            ("False", "Unschedulable", f"no node takes the pod; {UNHEARD}"),
        ),
        (
            _view(pods=[LOST, PLACED]),
            (
                "False",
                "Starting",
                f"node n1 prepares the container: its image, its volumes; {UNHEARD}",
            ),
        ),
        (_view(pods=[LOADING], problem=FAILED), ("False", "LoadFailed", "no such file")),
        (
            _view(no_pods="exceeded quota: q"),
            ("False", "NoCapacity", "no pod can be made: exceeded quota: q"),
        ),
        (
            _view(pods=[TERMINATING], no_pods="exceeded quota: q"),
            ("False", "Starting", "waiting for 1 old runners to finish their predictions"),
        ),
        (
            _view(2, pods=[LOADING], no_pods="exceeded quota: q"),
            ("False", "LoadingModel", "loading since 2026-01-02T03:04:00Z"),
        ),
        (
            _view(pods=[TERMINATING], no_pods="violates PodSecurity"),
            ("False", "PodsRefused", "no pod can be made: violates PodSecurity"),
        ),
    ],
)
def test_ready(view: PodView, expected: tuple[str, str, str]) -> None:
    assert _verdict(view, ConditionType.READY) == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (_view(0), ("False", "Stable", "0 replicas, as wanted")),
        (_view(pods=[READY]), ("False", "Stable", "1 replicas, as wanted")),
        (_view(pods=[LOADING]), ("True", "LoadingModel", "0 of 1 replicas ready")),
        (_view(2, pods=[READY, LOADING]), ("True", "LoadingModel", "1 of 2 replicas ready")),
        (_view(pods=[HALF], repo="a/b"), ("True", "DownloadingModel", "0 of 1 replicas ready")),
        (_view(pods=[NEW]), ("True", "Starting", "0 of 1 replicas ready")),
        (
            _view(0, pods=[TERMINATING]),
            ("True", "Draining", "1 replicas finish their predictions and stop"),
        ),
        (
            _view(pods=[replace(READY, hash="old")]),
            ("True", "Updating", "1 replicas of an earlier document are still to be replaced"),
        ),
        (
            _view(pods=[LOST, replace(LOST, hash="old"), READY]),
            ("False", "Stable", "1 replicas, as wanted"),
        ),
        (
            _view(pods=[replace(LOADING, is_started=True)]),
            ("True", "NotReady", "0 of 1 replicas ready"),
        ),
        (_view(pods=[NEW], problem=STUCK), ("False", "Unschedulable", "0 of 1 replicas ready")),
        (_view(no_pods="exceeded quota"), ("False", "NoCapacity", "0 of 1 replicas ready")),
        (_view(2, pods=[READY], no_pods="no"), ("False", "PodsRefused", "1 of 2 replicas ready")),
        (_view(0, no_pods="no"), ("False", "Stable", "0 replicas, as wanted")),
    ],
)
def test_progressing(view: PodView, expected: tuple[str, str, str]) -> None:
    assert _verdict(view, ConditionType.PROGRESSING) == expected


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        (Why.STEADY, ("True", "Steady", "2 replicas wanted")),
        (
            Why.EXTERNAL,
            (
                "False",
                "External",
                "left at 2 replicas: spec.autoscaling.mode is None; scale the Deployment m-runner, "
                "not the model",
            ),
        ),
    ],
)
def test_scaling_active(why: Why, expected: tuple[str, str, str]) -> None:
    assert _verdict(_view(2, why), ConditionType.SCALING_ACTIVE) == expected


LOOKS = "a starting pod looks it up, and downloads what is missing"


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (_view(0), ("Unknown", "NotLookedUp", LOOKS)),
        (_view(pods=[replace(NEW, container="fetch")]), ("Unknown", "NotLookedUp", LOOKS)),
        (_view(pods=[HALF]), ("False", "DownloadingModel", "downloading a/b: 43 % of 1.2 GB")),
        (
            _view(pods=[NO_REPO.pod], problem=NO_REPO),
            ("False", "LoadFailed", "no such repository"),
        ),
        (_view(pods=[LOADING]), ("True", "Cached", "a/b is where its runners look for it")),
        (_view(2, pods=[READY, HALF]), ("True", "Cached", "a/b is where its runners look for it")),
        (_view(pods=[TERMINATING]), ("Unknown", "NotLookedUp", LOOKS)),
        (_view(pods=[replace(READY, hash="old")]), ("Unknown", "NotLookedUp", LOOKS)),
    ],
)
def test_whether_the_weights_are_there(view: PodView, expected: tuple[str, str, str]) -> None:
    assert _verdict(replace(view, repo="a/b"), ConditionType.ARTIFACT_CACHED) == expected


def test_a_model_that_is_no_hubs_has_no_such_condition() -> None:
    assert status(_view(), None, AT).condition(ConditionType.ARTIFACT_CACHED) is None


def test_counts_and_the_log() -> None:
    view = _view(2, pods=[READY, LOADING], problem=FAILED, load=Load(3, 1))
    found = status(view, None, AT)
    counts = (found.replicas, found.ready_replicas, found.queued, found.in_flight)
    assert counts == (2, 1, 3, 1)
    assert found.selector == "s=1"
    assert found.log_tail == ["a", "b"]


def test_an_unknown_load_is_held() -> None:
    before = status(_view(load=Load(3, 1)), None, AT)
    found = status(_view(1, Why.UNKNOWN, load=None), before, AT)
    assert (found.queued, found.in_flight) == (3, 1)
    scaling = found.condition(ConditionType.SCALING_ACTIVE)
    assert scaling
    assert (scaling.status, scaling.reason) == ("Unknown", "LoadUnknown")


def test_at_rest_a_status_is_the_same() -> None:
    view = _view(pods=[LOADING])
    before = status(view, None, AT)
    assert status(view, before, AT + timedelta(seconds=9)) == before


Told = tuple[str, str, str, list[str]]


def _says(found: InferenceModelStatus) -> Told:
    ready = found.condition(ConditionType.READY)
    assert ready
    return ready.status.value, ready.reason, ready.message, found.log_tail


ASLEEP: Told = (
    "Unknown",
    "ScaledToZero",
    "starts with the first prediction, which shows whether it loads",
    [],
)


@pytest.mark.parametrize("reason", ["LoadFailed", "OOMKilled", "CrashLoopBackOff"])
def test_a_failed_start_is_told_until_the_next(reason: str) -> None:
    problem = replace(FAILED, reason=Reason(reason))
    failed = status(_view(pods=[LOADING], problem=problem), None, AT)
    for pods in ([TERMINATING], []):
        failed = status(_view(0, pods=pods), failed, AT)
        assert _says(failed) == ("False", reason, "no such file", ["a", "b"])
    started = status(_view(pods=[PLACED]), failed, AT)
    assert _says(started)[1] == "Starting"
    assert _says(status(_view(0), started, AT)) == ASLEEP


def test_a_changed_model_has_not_failed_yet() -> None:
    failed = status(_view(pods=[LOADING], problem=FAILED), None, AT)
    assert _says(status(_view(0, generation=8), failed, AT)) == ASLEEP


def test_a_model_that_was_not_tried_sleeps() -> None:
    stuck = status(_view(pods=[NEW], problem=STUCK), None, AT)
    assert _says(status(_view(0), stuck, AT)) == ASLEEP


def test_a_refused_model_keeps_what_runs() -> None:
    before = status(_view(pods=[READY]), None, AT)
    later = AT + timedelta(seconds=9)
    found = refused(Reason.NAME_TAKEN, "m-runner exists", 8, before, later)
    assert (found.replicas, found.ready_replicas, found.observed_generation) == (1, 1, 8)
    ready = found.condition(ConditionType.READY)
    assert ready
    assert (ready.status, ready.reason, ready.message) == ("False", "NameTaken", "m-runner exists")
    assert ready.last_transition_time == later


def test_a_model_may_be_refused_at_once() -> None:
    assert (
        refused(Reason.INVALID_MODEL, "no", 1, None, AT).replicas == InferenceModelStatus().replicas
    )


def test_who_waits_for_ready_waits_until_it_has_loaded_once() -> None:
    """A class that does not exist shows with the first start, which a model at rest never had."""
    assert _verdict(_view(0), ConditionType.READY)[0] == "Unknown"
    started = RolloutStatus(hash="h", version="1")
    told = _verdict(_view(0, rollout=started), ConditionType.READY)
    assert told == ("True", "ScaledToZero", "starts with the next prediction")
    changed = RolloutStatus(hash="earlier", version="1")
    assert _verdict(_view(0, rollout=changed), ConditionType.READY)[0] == "Unknown"
