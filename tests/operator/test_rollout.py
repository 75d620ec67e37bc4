"""Which version of a changed model runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference_contract.inferencemodel import Reason, RolloutStatus
from inference_operator.rollout import judge, running, template_of
from inference_operator.runner_pods import RunnerPod, Trouble

OLD, NEW = "old", "new"
SERVED = RolloutStatus(hash=OLD, version="1")
TAKEN_BACK = RolloutStatus(hash=OLD, version="1", failed_hash=NEW, failed_message="LoadFailed: no")
POD = RunnerPod("p", "uid", NEW)
READY = replace(POD, is_ready=True)
DOWNLOADING = replace(POD, container="fetch", running_since="2026-01-02T03:04:05Z")


def _trouble(reason: Reason, restarts: int = 0) -> Trouble:
    return Trouble(reason, "no", replace(POD, restarts=restarts))


@pytest.mark.parametrize(
    ("before", "desired", "pods", "trouble", "overdue", "after"),
    [
        # The first version has nothing to go back to.
        (RolloutStatus(), NEW, [POD], None, "", RolloutStatus()),
        (RolloutStatus(), NEW, [POD], _trouble(Reason.LOAD_FAILED, 3), "", RolloutStatus()),
        (RolloutStatus(), NEW, [READY], None, "", RolloutStatus(hash=NEW, version="2")),
        # A change: what was ready counts until the new one is.
        (SERVED, NEW, [POD], None, "", SERVED),
        (SERVED, NEW, [replace(READY, hash=OLD)], None, "", SERVED),
        (SERVED, NEW, [POD, READY], None, "", RolloutStatus(hash=NEW, version="2")),
        # A failure is given a second chance, but for one that only a person can mend.
        (SERVED, NEW, [POD], _trouble(Reason.LOAD_FAILED), "", SERVED),
        (SERVED, NEW, [POD], _trouble(Reason.LOAD_FAILED, 1), "", TAKEN_BACK),
        (SERVED, NEW, [POD], _trouble(Reason.UNSCHEDULABLE), "", SERVED),
        (
            SERVED,
            NEW,
            [POD],
            _trouble(Reason.IMAGE_PULL_BACK_OFF),
            "",
            TAKEN_BACK.model_copy(update={"failed_message": "ImagePullBackOff: no"}),
        ),
        # What time may heal has until the Deployment's deadline.
        (
            SERVED,
            NEW,
            [POD],
            _trouble(Reason.UNSCHEDULABLE),
            "deadline",
            TAKEN_BACK.model_copy(update={"failed_message": "Unschedulable: no"}),
        ),
        (
            SERVED,
            NEW,
            [POD],
            None,
            "deadline",
            TAKEN_BACK.model_copy(update={"failed_message": "deadline"}),
        ),
        # A download may take longer than that, and then the load has not begun.
        (SERVED, NEW, [DOWNLOADING], None, "deadline", SERVED),
        (SERVED, NEW, [replace(DOWNLOADING, container="runner")], None, "deadline", SERVED),
        # Taken back, it stays so, whatever its last pods still say; another change is tried.
        (TAKEN_BACK, NEW, [POD], _trouble(Reason.OOM_KILLED, 5), "", TAKEN_BACK),
        (TAKEN_BACK, "third", [POD], None, "", SERVED),
        (
            TAKEN_BACK,
            OLD,
            [replace(READY, hash=OLD)],
            None,
            "",
            RolloutStatus(hash=OLD, version="2"),
        ),
        # What ran before fails: nobody changed it, so that nothing is to be taken back.
        (SERVED, OLD, [], _trouble(Reason.CRASH_LOOP_BACK_OFF, 9), "deadline", SERVED),
    ],
)
def test_judge(
    before: RolloutStatus,
    desired: str,
    pods: list[RunnerPod],
    trouble: Trouble | None,
    overdue: str,
    after: RolloutStatus,
) -> None:
    assert judge(before, desired, "2", pods, trouble, overdue=overdue) == after


@pytest.mark.parametrize(
    ("rollout", "desired", "expected"),
    [
        (RolloutStatus(), NEW, NEW),
        (SERVED, NEW, NEW),
        (TAKEN_BACK, NEW, OLD),
        (TAKEN_BACK, "third", "third"),
    ],
)
def test_running(rollout: RolloutStatus, desired: str, expected: str) -> None:
    assert running(rollout, desired) == expected


def _replica_set(revision: str, owner: str, image: str) -> dict[str, Any]:
    return {
        "metadata": {
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"uid": owner}],
        },
        "spec": {
            "template": {
                "metadata": {"labels": {"a": "b", "pod-template-hash": "x"}},
                "spec": {"image": image},
            }
        },
    }


def test_the_template_of_the_latest_revision() -> None:
    sets = [_replica_set("9", "mine", "a"), _replica_set("10", "mine", "b")]
    sets.append(_replica_set("11", "another's", "c"))
    assert template_of(sets, "mine") == {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"image": "b"},
    }
    assert template_of(sets, "nobody's") is None
