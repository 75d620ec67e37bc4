"""From what a look found to the Deployment that shall be, and what is told: a table."""

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
from inference_contract.pods import LABEL_HASH
from inference_operator.cluster.decide import decide
from inference_operator.cluster.manifests.build import children
from inference_operator.cluster.observe import Observation
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.cluster.resource import parse
from inference_operator.cluster.scaling_loop import Seen
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load

URL = "redis://127.0.0.1:1"
DOCUMENT = {
    "apiVersion": "inference-server.dev/v1alpha1",
    "kind": "InferenceModel",
    "metadata": {"name": "m", "namespace": "team-a", "uid": "uid-1", "generation": 7},
    "spec": {"type": "text-generation", "source": {"path": "/m"}, "version": "2"},
}
RESOURCE = parse(DOCUMENT, owner="alice", home="team-a")
CHILDREN = children(RESOURCE, ClusterSettings(runner_image="r:1", redis_url=URL), URL)
NEW, OLD = CHILDREN.hash, "earlier"
EARLIER = {"metadata": {"labels": {LABEL_HASH: OLD}}, "spec": {"containers": []}}
POD = RunnerPod("p", "uid", NEW, node="n1")
READY = replace(POD, is_ready=True, is_started=True)
OLD_READY = replace(READY, name="q", hash=OLD)
WORKED = InferenceModelStatus(rollout=RolloutStatus(hash=OLD, version="1"))
TAKEN_BACK = InferenceModelStatus(
    rollout=RolloutStatus(hash=OLD, version="1", failed_hash=NEW, failed_message="LoadFailed: no")
)
BROKEN = PodProblem(Reason.LOAD_FAILED, "no", replace(POD, restarts=1))
NO_SECRET = PodProblem(Reason.CREATE_CONTAINER_CONFIG_ERROR, "no", POD)
OURS = RESOURCE.parent.child
OLD_BROKEN = PodProblem(Reason.OOM_KILLED, "too large", replace(POD, hash=OLD))
SEEN = Seen(Decision(1, Why.STEADY), Load(3, 1))


def _found(**changes: Any) -> Observation:
    found = Observation(
        resource=RESOURCE,
        children=CHILDREN,
        deployment={"metadata": {}, "spec": {"replicas": 1}},
        pods=[],
        problems={},
        earlier=None,
        seen=SEEN,
        before=InferenceModelStatus(),
        redis_url=URL,
        now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    return replace(found, **changes)


def _condition(type: str, status: str, message: str) -> dict[str, Any]:
    found = {"type": type, "status": status, "message": message}
    return {"metadata": {}, "spec": {"replicas": 1}, "status": {"conditions": [found]}}


def _lacks(secret: str) -> PodProblem:
    said = ("CreateContainerConfigError", f'secret "{secret}" not found')
    return PodProblem(Reason.CREATE_CONTAINER_CONFIG_ERROR, "no", replace(POD, waiting=said))


STALLED = _condition("Progressing", "False", "no progress")
CHANGED = {"before": WORKED, "earlier": EARLIER}


@pytest.mark.parametrize(
    ("found", "runs", "ready", "rollout"),
    [
        # The first version, from nothing to ready.
        (_found(deployment=None), NEW, Reason.STARTING, RolloutStatus()),
        (_found(pods=[POD]), NEW, Reason.STARTING, RolloutStatus()),
        (_found(pods=[READY]), NEW, Reason.READY, RolloutStatus(hash=NEW, version="2")),
        # It has nothing to go back to.
        (_found(pods=[POD], problems={NEW: BROKEN}), NEW, Reason.LOAD_FAILED, RolloutStatus()),
        (_found(pods=[POD], deployment=STALLED), NEW, Reason.STARTING, RolloutStatus()),
        # A change: what worked serves until the new one does.
        (_found(pods=[POD, OLD_READY], **CHANGED), NEW, Reason.READY, WORKED.rollout),
        (_found(pods=[READY], **CHANGED), NEW, Reason.READY, RolloutStatus(hash=NEW, version="2")),
        # One that fails is taken back, as long as the cluster has the earlier pods,
        (
            _found(pods=[POD, OLD_READY], problems={NEW: BROKEN}, **CHANGED),
            OLD,
            Reason.READY,
            TAKEN_BACK.rollout,
        ),
        (
            _found(pods=[POD], problems={NEW: BROKEN}, before=WORKED),
            NEW,
            Reason.LOAD_FAILED,
            RolloutStatus(),
        ),
        # or that makes no progress for too long;
        (
            _found(pods=[POD, OLD_READY], deployment=STALLED, **CHANGED),
            OLD,
            Reason.READY,
            RolloutStatus(hash=OLD, version="1", failed_hash=NEW, failed_message="no progress"),
        ),
        # not one that lacks a Secret of ours, which is there again soon,
        (
            _found(pods=[POD, OLD_READY], problems={NEW: _lacks(OURS)}, **CHANGED),
            NEW,
            Reason.READY,
            WORKED.rollout,
        ),
        (
            _found(pods=[POD, OLD_READY], problems={NEW: _lacks("theirs")}, **CHANGED),
            OLD,
            Reason.READY,
            RolloutStatus(
                hash=OLD,
                version="1",
                failed_hash=NEW,
                failed_message="CreateContainerConfigError: no",
            ),
        ),
        # and stays so; what is told then is of the earlier pods.
        (
            _found(pods=[OLD_READY], before=TAKEN_BACK, earlier=EARLIER),
            OLD,
            Reason.READY,
            TAKEN_BACK.rollout,
        ),
        (
            _found(problems={OLD: OLD_BROKEN}, before=TAKEN_BACK, earlier=EARLIER),
            OLD,
            Reason.OOM_KILLED,
            TAKEN_BACK.rollout,
        ),
        # No pod can be made.
        (
            _found(deployment=_condition("ReplicaFailure", "True", "forbidden")),
            NEW,
            Reason.PODS_REFUSED,
            RolloutStatus(),
        ),
    ],
)
def test_which_version_runs_and_what_is_told(
    found: Observation, runs: str, ready: Reason, rollout: RolloutStatus
) -> None:
    plan = decide(found)
    template = plan.deployment["spec"]["template"]
    assert template["metadata"]["labels"][LABEL_HASH] == runs
    told = plan.status.condition(ConditionType.READY)
    assert told is not None
    assert told.reason == ready
    assert plan.status.rollout == rollout


def test_the_status_has_the_load_and_whose_pods_count() -> None:
    status = decide(_found(pods=[READY, OLD_READY])).status
    assert (status.queued, status.in_flight) == (3, 1)
    assert (status.replicas, status.ready_replicas) == (2, 2)
    assert status.selector == "inference-server.dev/model=m"
    assert status.observed_generation == 7


@pytest.mark.parametrize(
    ("problems", "lacks"),
    [({}, False), ({NEW: BROKEN}, False), ({NEW: NO_SECRET}, True), ({OLD: NO_SECRET}, False)],
)
def test_a_pod_that_lacks_its_secret_has_ours_looked_at(
    problems: dict[str, PodProblem], lacks: bool
) -> None:
    assert decide(_found(pods=[POD], problems=problems)).lacks_config is lacks


def test_what_is_told_goes_on_from_what_was() -> None:
    found = _found(pods=[READY])
    before = decide(found).status
    ready = before.condition(ConditionType.READY)
    assert ready
    assert ready.last_transition_time == found.now
    later = replace(found, before=before, now=found.now + timedelta(seconds=9))
    assert decide(later).status == before


def test_what_is_told_of_a_change_that_was_taken_back() -> None:
    found = _found(pods=[OLD_READY], before=TAKEN_BACK, earlier=EARLIER)
    progressing = decide(found).status.condition(ConditionType.PROGRESSING)
    assert progressing
    assert progressing.message == (
        "version 1 serves on, for version 2 did not become ready (LoadFailed: no): correct the "
        "spec; another spec.version tries it again"
    )


def test_of_a_model_from_a_hub_its_download_is_told() -> None:
    assert decide(_found()).status.condition(ConditionType.ARTIFACT_CACHED) is None
    spec = {"type": "text-generation", "source": {"hub": {"repo": "a/b"}}}
    resource = parse({**DOCUMENT, "spec": spec}, owner="alice", home="team-a")
    status = decide(_found(pods=[READY], resource=resource)).status
    cached = status.condition(ConditionType.ARTIFACT_CACHED)
    assert cached
    assert (cached.status, cached.message) == ("True", "a/b is where its runners look for it")
