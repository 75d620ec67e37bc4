"""What the pods of a model say, as the API server has them, and what of it is trouble."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from inference_contract.inferencemodel import Reason
from inference_contract.pods import LABEL_HASH, LABEL_OWNER
from inference_operator.cluster.pods.diagnosis import diagnose, last_error, refused_for, worst
from inference_operator.cluster.pods.runner_pod import (
    ANNOTATION_COST,
    OVERDUE,
    RECENT,
    DownloadProgress,
    End,
    Eviction,
    RunnerPod,
    as_of,
    next_overdue,
    parse,
    recent,
)

SCHEDULED = {"type": "PodScheduled", "status": "True"}
NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}
READY = {"type": "Ready", "status": "True"}
UNREADY = {"type": "Ready", "status": "False"}
RUNNING = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}


def _ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def _pod(
    state: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    *conditions: dict[str, Any],
    restarts: int = 0,
    name: str = "p",
    limits: dict[str, str] | None = None,
    says: dict[str, bool] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    container = {"name": "runner", "restartCount": restarts, "state": state, "lastState": last}
    container |= says or {}
    statuses = [{k: v for k, v in container.items() if v is not None}] if state else []
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {LABEL_HASH: "h"}, **metadata},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "runner", "resources": {"limits": limits or {}}}],
        },
        "status": {
            "phase": "Pending",
            "conditions": list(conditions or [SCHEDULED]),
            "containerStatuses": statuses,
        },
    }


def _fetching(
    state: dict[str, Any] | None = None, last: dict[str, Any] | None = None, restarts: int = 0
) -> dict[str, Any]:
    """A pod whose download is in that state, and whose runner waits for it."""
    pod = _pod(_waiting("PodInitializing", ""))
    fetch = {"name": "fetch", "restartCount": restarts, "state": state, "lastState": last}
    limits = {"memory": "1Gi"}
    pod["spec"]["initContainers"] = [{"name": "fetch", "resources": {"limits": limits}}]
    statuses = [{k: v for k, v in fetch.items() if v is not None}] if state else []
    pod["status"]["initContainerStatuses"] = statuses
    return pod


def _download(*args: Any, **changes: Any) -> RunnerPod:
    pod = parse(_fetching(*args, **changes))
    assert pod is not None
    return pod


def _read(*args: Any, **changes: Any) -> RunnerPod:
    pod = parse(_pod(*args, **changes))
    assert pod is not None
    return pod


def _waiting(reason: str, message: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


UP = {"started": True, "ready": False}
SERVES = {"started": True, "ready": True}
LOST = (
    "nothing is heard of node n1: its runner is replaced when Kubernetes gives the node up, or at "
    "once with kubectl delete pod p"
)
LOW = (
    "The node was low on resource: ephemeral-storage. Container runner was using 3Gi, "
    "request is 0. "
)
PUT_OUT = (
    "node n1 put the pod out: Evicted: The node was low on resource: ephemeral-storage. Container "
    "runner was using 3Gi, request is 0; ask in spec.pod.resources for what the model needs"
)
NO_DEVICE = "Pod was rejected: Allocate failed due to no healthy devices present"
BORN = "2026-01-02T03:00:00Z"
PUT_OUT_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _put_out(
    reason: str = "Evicted", message: str = LOW, phase: str = "Failed", **changes: Any
) -> dict[str, Any]:
    """A pod as the kubelet leaves it that has put it out."""
    at = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    pod = _pod(None, None, SCHEDULED, at, **{"creationTimestamp": BORN, **changes})
    pod["status"] |= {"phase": phase, "reason": reason, "message": message}
    return pod


def _evicted(*args: Any, **changes: Any) -> RunnerPod:
    pod = parse(_put_out(*args, **changes))
    assert pod is not None
    return pod


def _nowhere(message: str) -> RunnerPod:
    return _read(None, None, {**NO_NODE, "message": message})


NO_PLACE = "correct spec.pod.nodeSelector or spec.pod.tolerations, or add a node"
NO_CLAIM = "create the claim, or correct spec.source.pvc or spec.cache.storageClassName"
PULL = 'failed to pull "x": not found'
NO_SECRET = (
    Reason.CREATE_CONTAINER_CONFIG_ERROR,
    'the container cannot start: secret "s" not found; create what is missing, or correct spec.env',
)
PULL_SHOWN = f"the image cannot be pulled: {PULL}; correct spec.pod.image, or let nodes pull it"


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_read(), None),
        (_read(RUNNING), None),
        (_read(_waiting("ContainerCreating", "")), None),
        (
            _read(None, None, NO_NODE),
            (
                Reason.UNSCHEDULABLE,
                "no node takes the pod: 0/1 nodes are available: 1 "
                "Insufficient memory; lower spec.pod.resources or its placement's demands, or "
                "add a node",
            ),
        ),
        (
            _nowhere(
                "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
            ),
            (
                Reason.UNSCHEDULABLE,
                "no node takes the pod: 0/2 nodes are available: 2 node(s) didn't match Pod's node "
                f"affinity/selector; {NO_PLACE}",
            ),
        ),
        (
            _nowhere('0/1 nodes are available: persistentvolumeclaim "x" not found.'),
            (
                Reason.UNSCHEDULABLE,
                "no node takes the pod: 0/1 nodes are available: persistentvolumeclaim "
                f'"x" not found; {NO_CLAIM}',
            ),
        ),
        (
            _nowhere("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            (
                Reason.UNSCHEDULABLE,
                "no node takes the pod: 0/1 nodes are available: pod has unbound immediate "
                f"PersistentVolumeClaims; {NO_CLAIM}",
            ),
        ),
        (_evicted(), (Reason.EVICTED, PUT_OUT)),
        (
            _evicted("UnexpectedAdmissionError", NO_DEVICE),
            (Reason.EVICTED, f"node n1 put the pod out: UnexpectedAdmissionError: {NO_DEVICE}"),
        ),
        (_read(RUNNING, None, UNREADY, says=SERVES), (Reason.NODE_LOST, LOST)),
        (_read(RUNNING, None, UNREADY, says=UP), None),
        (_read(_waiting("ErrImagePull", PULL)), (Reason.IMAGE_PULL_BACK_OFF, PULL_SHOWN)),
        (
            _read(
                _waiting("ImagePullBackOff", f'Back-off pulling image "x": ErrImagePull: {PULL}')
            ),
            (Reason.IMAGE_PULL_BACK_OFF, PULL_SHOWN),
        ),
        (
            _read(_waiting("InvalidImageName", "")),
            (
                Reason.IMAGE_PULL_BACK_OFF,
                "the image cannot be pulled: InvalidImageName; correct spec.pod.image, or let "
                "nodes pull it",
            ),
        ),
        (
            _read(BACK_OFF, _ended(137, "OOMKilled"), restarts=1),
            (
                Reason.OOM_KILLED,
                "the runner needs more than the node's memory: raise "
                "spec.pod.resources.limits.memory; 1 restarts so far",
            ),
        ),
        (_read(_waiting("CreateContainerConfigError", 'secret "s" not found')), NO_SECRET),
        (
            _read(_waiting("CreateContainerError", "")),
            (Reason.CREATE_CONTAINER_ERROR, "the container cannot start: CreateContainerError"),
        ),
        (
            _read(BACK_OFF, _ended(128), restarts=1),
            (Reason.CRASH_LOOP_BACK_OFF, "the runner ended with exit code 128; 1 restarts so far"),
        ),
        (
            _read(BACK_OFF, _ended(129), restarts=1),
            (Reason.CRASH_LOOP_BACK_OFF, "the runner was killed by SIGHUP; 1 restarts so far"),
        ),
        (
            _read(BACK_OFF, _ended(159), restarts=1),
            (Reason.CRASH_LOOP_BACK_OFF, "the runner was killed by SIGSYS; 1 restarts so far"),
        ),
        (
            _read(BACK_OFF, _ended(160), restarts=1),
            (Reason.CRASH_LOOP_BACK_OFF, "the runner ended with exit code 160; 1 restarts so far"),
        ),
        (
            _read(_waiting("RunContainerError", "no such runtime")),
            (Reason.CREATE_CONTAINER_ERROR, "the container cannot start: no such runtime"),
        ),
        (
            _read(BACK_OFF, _ended(137, "OOMKilled"), restarts=1, limits={"memory": "1Gi"}),
            (
                Reason.OOM_KILLED,
                "the runner needs more than its limit of 1Gi: raise "
                "spec.pod.resources.limits.memory; 1 restarts so far",
            ),
        ),
        (
            _read(RUNNING, _ended(3), restarts=1),
            (Reason.LOAD_FAILED, "the model did not load; 1 restarts so far"),
        ),
        (_read(_ended(5)), (Reason.LOAD_FAILED, "the model did not load; 0 restarts so far")),
        (_read(RUNNING, _ended(1), restarts=1), None),
        (
            _read(RUNNING, _ended(1), restarts=2),
            (Reason.CRASH_LOOP_BACK_OFF, "the runner ended with exit code 1; 2 restarts so far"),
        ),
        (
            _read(BACK_OFF, _ended(139), restarts=1),
            (Reason.CRASH_LOOP_BACK_OFF, "the runner was killed by SIGSEGV; 1 restarts so far"),
        ),
        (_read(RUNNING, _ended(3), READY, restarts=9), None),
        (_read(BACK_OFF, _ended(3), restarts=9, deletionTimestamp="2026-01-01T00:00:00Z"), None),
    ],
)
def test_diagnosis(pod: RunnerPod, expected: tuple[Reason, str] | None) -> None:
    problem = diagnose(pod)
    assert (problem and (problem.reason, problem.message)) == expected


NOT_DOWNLOADED = "the model was not downloaded; 1 restarts so far"


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_download(), None),
        (_download(RUNNING), None),
        (_download(_ended(0, "Completed")), None),
        (_download(_ended(3), restarts=1), (Reason.LOAD_FAILED, NOT_DOWNLOADED)),
        (_download(_ended(1), restarts=1), (Reason.LOAD_FAILED, NOT_DOWNLOADED)),
        (_download(BACK_OFF, _ended(3), restarts=1), (Reason.LOAD_FAILED, NOT_DOWNLOADED)),
        (_download(RUNNING, _ended(3), restarts=1), (Reason.LOAD_FAILED, NOT_DOWNLOADED)),
        (replace(_download(RUNNING, _ended(3), restarts=1), progress=DownloadProgress(1, 2)), None),
        (_download(_waiting("ErrImagePull", PULL)), (Reason.IMAGE_PULL_BACK_OFF, PULL_SHOWN)),
        (_download(_waiting("CreateContainerConfigError", 'secret "s" not found')), NO_SECRET),
        (
            _download(BACK_OFF, _ended(137, "OOMKilled"), restarts=1),
            (
                Reason.OOM_KILLED,
                "the download needs more than its limit of 1Gi: raise "
                "spec.pod.resources.limits.memory; 1 restarts so far",
            ),
        ),
    ],
)
def test_diagnosis_of_a_download(pod: RunnerPod, expected: tuple[Reason, str] | None) -> None:
    problem = diagnose(pod)
    assert (problem and (problem.reason, problem.message)) == expected


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_download(), ("fetch", False, False)),
        (_download(_waiting("PodInitializing", "")), ("fetch", False, False)),
        (_download(RUNNING), ("fetch", True, False)),
        (_download(BACK_OFF, _ended(3)), ("fetch", False, False)),
        (_download(_ended(0)), ("runner", False, False)),
        (_read(), ("runner", False, False)),
        (_read(RUNNING), ("runner", False, True)),
        (_read(RUNNING, None, UNREADY, says=UP), ("runner", False, False)),
        (_read(RUNNING, None, READY), ("runner", False, False)),
    ],
)
def test_what_a_pod_is_at(pod: RunnerPod, expected: tuple[str, bool, bool]) -> None:
    assert (pod.container, pod.is_downloading, pod.is_loading) == expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("exceeded quota: q, requested: pods=1", Reason.NO_CAPACITY),
        ("failed quota: q: must specify limits.cpu", Reason.NO_CAPACITY),
        ("maximum storage usage per PersistentVolumeClaim is 1Gi", Reason.NO_CAPACITY),
        ("violates PodSecurity", Reason.PODS_REFUSED),
    ],
)
def test_a_quota_leaves_no_room_and_all_else_is_refused(said: str, reason: Reason) -> None:
    assert refused_for(said, Reason.PODS_REFUSED) == reason


def test_all_that_a_pod_says() -> None:
    pod = _pod(
        _ended(3),
        None,
        NO_NODE,
        READY,
        restarts=2,
        limits={"memory": "1Gi"},
        says={"started": True, "ready": True},
        labels={LABEL_HASH: "h", LABEL_OWNER: "alice"},
        annotations={ANNOTATION_COST: "7"},
        deletionTimestamp="2026-01-02T03:04:05Z",
    )
    pod["spec"]["containers"].insert(0, {"name": "sidecar"})
    assert parse(pod) == RunnerPod(
        name="p",
        uid="uid-p",
        hash="h",
        container="runner",
        node="n1",
        is_ready=True,
        is_started=True,
        terminating_until=PUT_OUT_AT,
        is_lost=False,
        restarts=2,
        end=End(3, "Error", is_last=True),
        unschedulable=NO_NODE["message"],
        memory_limit="1Gi",
        owner="alice",
        deletion_cost="7",
    )


def test_a_pod_that_the_kubelet_does_not_know_yet() -> None:
    assert parse({"metadata": {"name": "p", "uid": "u"}}) == RunnerPod("p", "u", "")
    waiting = _read({"waiting": {}})
    assert (waiting.waiting, waiting.restarts, waiting.running_since) == (("", ""), 0, "")
    assert _read(_waiting("a", "b")).waiting == ("a", "b")
    assert _read(RUNNING).running_since == "2026-01-02T03:04:05Z"
    assert _read(None, None, {**NO_NODE, "reason": "SchedulerError"}).unschedulable == ""


def test_how_a_container_ended() -> None:
    assert _read(_ended(0)).end == End(0, "Error", is_last=True)
    assert _read({"terminated": {"exitCode": 1}}).end == End(1, "", is_last=True)
    assert _read(RUNNING, _ended(0)).end is None
    assert _read(RUNNING, _ended(1), restarts=1).end == End(1, "Error", is_last=False)


def test_after_its_download_a_pod_is_at_its_runner() -> None:
    found = parse(_fetching(_ended(0, "Completed")))
    assert found is not None
    assert (found.container, found.memory_limit) == ("runner", "")


def test_the_memory_limit_is_that_of_the_download_while_it_runs() -> None:
    found = parse(_fetching(RUNNING))
    assert found is not None
    assert (found.container, found.memory_limit) == ("fetch", "1Gi")


def test_of_pulls_that_failed_one_in_another_all_that_was_said_is_told() -> None:
    said = "Back-off pulling image: ErrImagePull: denied: ErrImagePull: by a mirror"
    found = diagnose(_read(_waiting("ImagePullBackOff", said)))
    assert found is not None
    assert "pulled: denied: ErrImagePull: by a mirror;" in found.message


def test_an_eviction_is_as_old_as_the_last_that_is_known_of_it() -> None:
    assert _evicted().eviction == Eviction("Evicted", LOW.strip(" ."), PUT_OUT_AT)
    bare = parse(
        {
            "metadata": {"name": "p", "uid": "u", "creationTimestamp": BORN},
            "status": {"phase": "Failed", "reason": "Evicted", "conditions": [SCHEDULED]},
        }
    )
    assert bare
    assert bare.eviction == Eviction("Evicted", "", datetime.fromisoformat(BORN))


def test_of_equal_problems_that_of_the_first_name_is_reported() -> None:
    pods = [_read(_ended(3), name=name) for name in "bac"]
    problem = worst(pods)
    assert problem
    assert problem.pod.name == "a"


def test_the_log_of_the_last_start_is_the_current_one_until_the_next() -> None:
    ended, restarted = _read(_ended(3)), _read(BACK_OFF, _ended(3), restarts=1)
    assert [pod.end and pod.end.is_last for pod in (ended, restarted)] == [True, False]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_none(phase: str) -> None:
    pod = _pod()
    pod["status"]["phase"] = phase
    assert parse(pod) is None


def test_an_eviction_is_news_for_a_while() -> None:
    pod = _evicted()
    last = PUT_OUT_AT + RECENT
    assert recent([pod], last - timedelta(seconds=1)) == [pod]
    assert recent([pod], last) == []
    young = _evicted(creationTimestamp="2026-01-02T03:04:06Z")
    assert recent([young], last) == [young]


@pytest.mark.parametrize(
    ("pod", "is_told"),
    [
        (_read(None), True),
        (_read(RUNNING), True),
        (_read(RUNNING, None, READY), False),
        (replace(_download(RUNNING), progress=DownloadProgress(1, 2)), False),
    ],
)
def test_an_eviction_is_told_until_another_pod_gets_on(pod: RunnerPod, is_told: bool) -> None:
    assert (worst([_evicted(name="q"), pod]) is not None) is is_told


def test_a_pod_that_should_have_ended_is_lost() -> None:
    terminating = _read(RUNNING, None, UNREADY, deletionTimestamp="2026-01-02T03:04:05Z")
    staying = _read(RUNNING, name="q")
    end = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + OVERDUE
    before = end - timedelta(seconds=1)
    assert as_of([terminating, staying], before) == [terminating, staying]
    assert next_overdue([terminating, staying], before) == 1
    lost, same = as_of([terminating, staying], end)
    assert (lost.is_lost, lost.is_loading, same) == (True, False, staying)
    assert next_overdue([terminating, staying], end) == inf


def test_what_only_the_user_can_mend_comes_first() -> None:
    pods = [_read(None, None, NO_NODE), _read(BACK_OFF, _ended(3), name="q")]
    problem = worst(pods)
    assert problem
    assert (problem.reason, problem.pod.name) == (Reason.LOAD_FAILED, "q")
    assert worst([_read(RUNNING)]) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (["Traceback", "ValueError: no", ""], "ValueError: no"),
        (['{"level": "error", "event": "e", "error": "no such file"}', "x"], "no such file"),
        (['{"level": "error", "event": "too long"}', '{"level": "info"}'], "too long"),
        (["[1]"], "[1]"),
        (['{"level": "critical", "event": ""}', "x"], ""),
        (["first", "last"], "last"),
    ],
)
def test_last_words(lines: list[str], expected: str) -> None:
    assert last_error(lines) == expected


def test_a_download_that_runs_is_no_runner_that_is_up() -> None:
    found = _fetching(RUNNING)
    found["status"]["initContainerStatuses"][0]["started"] = True
    pod = parse(found)
    assert pod
    assert pod.is_downloading
    assert not pod.is_started
