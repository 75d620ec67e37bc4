"""What the pods of a model say, as the API server has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference_contract.inferencemodel import Reason
from inference_contract.pods import LABEL_HASH
from inference_operator.runner_pods import (
    Progress,
    RunnerPod,
    diagnose,
    last_words,
    parse,
    worst,
)

SCHEDULED = {"type": "PodScheduled", "status": "True"}
NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}
READY = {"type": "Ready", "status": "True"}
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
    **metadata: Any,
) -> dict[str, Any]:
    container = {"name": "runner", "restartCount": restarts, "state": state, "lastState": last}
    statuses = [{k: v for k, v in container.items() if v is not None}] if state else []
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {LABEL_HASH: "h"}, **metadata},
        "spec": {"containers": [{"name": "runner", "resources": {"limits": limits or {}}}]},
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


PULL = 'failed to pull "x": not found'
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
        (_read(_waiting("ErrImagePull", PULL)), (Reason.IMAGE_PULL_BACK_OFF, PULL_SHOWN)),
        (
            _read(
                _waiting("ImagePullBackOff", f'Back-off pulling image "x": ErrImagePull: {PULL}')
            ),
            (Reason.IMAGE_PULL_BACK_OFF, PULL_SHOWN),
        ),
        (
            _read(_waiting("CreateContainerConfigError", 'secret "s" not found')),
            (Reason.STARTING, 'the container cannot start: secret "s" not found'),
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
    trouble = diagnose(pod)
    assert (trouble and (trouble.reason, trouble.message)) == expected


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
        (replace(_download(RUNNING, _ended(3), restarts=1), progress=Progress(1, 2)), None),
        (_download(_waiting("ErrImagePull", PULL)), (Reason.IMAGE_PULL_BACK_OFF, PULL_SHOWN)),
        (
            _download(_waiting("CreateContainerConfigError", 'secret "s" not found')),
            (Reason.STARTING, 'the container cannot start: secret "s" not found'),
        ),
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
    trouble = diagnose(pod)
    assert (trouble and (trouble.reason, trouble.message)) == expected


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
        (_read(RUNNING, None, READY), ("runner", False, False)),
    ],
)
def test_what_a_pod_is_at(pod: RunnerPod, expected: tuple[str, bool, bool]) -> None:
    assert (pod.container, pod.is_downloading, pod.is_loading) == expected


def test_the_log_of_the_last_start_is_the_current_one_until_the_next() -> None:
    ended, restarted = _read(_ended(3)), _read(BACK_OFF, _ended(3), restarts=1)
    assert [pod.end and pod.end.is_last for pod in (ended, restarted)] == [True, False]


def test_an_evicted_pod_is_none() -> None:
    pod = _pod()
    pod["status"]["phase"] = "Failed"
    assert parse(pod) is None


def test_what_only_the_user_can_mend_comes_first() -> None:
    pods = [_read(None, None, NO_NODE), _read(BACK_OFF, _ended(3), name="q")]
    trouble = worst(pods)
    assert trouble
    assert (trouble.reason, trouble.pod.name) == (Reason.LOAD_FAILED, "q")
    assert worst([_read(RUNNING)]) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (["Traceback", "ValueError: no", ""], "ValueError: no"),
        (['{"level": "error", "event": "e", "error": "no such file"}', "x"], "no such file"),
        (['{"level": "error", "event": "too long"}', '{"level": "info"}'], "too long"),
        (["[1]"], "[1]"),
    ],
)
def test_last_words(lines: list[str], expected: str) -> None:
    assert last_words(lines) == expected
