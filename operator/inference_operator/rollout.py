"""Which version of a changed model runs: pure.

A change that does not become ready is taken back: with one replica and no spare GPU the old one has
gone before the new one could fail, so that waiting would leave nothing that serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inference_contract.inferencemodel import Reason, RolloutStatus
from inference_operator.manifests.child import Manifest
from inference_operator.runner_pods import RunnerPod, Trouble

_PATIENCE = {
    Reason.IMAGE_PULL_BACK_OFF: 0,
    Reason.LOAD_FAILED: 1,
    Reason.OOM_KILLED: 1,
    Reason.CRASH_LOOP_BACK_OFF: 1,
}
"""How often the kubelet may start such a pod again before its version counts as failed. What time
or room may heal is not here: it has until the Deployment's progress deadline."""
_LABEL_OF_REPLICA_SET = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def judge(
    before: RolloutStatus,
    desired: str,
    version: str,
    pods: Iterable[RunnerPod],
    trouble: Trouble | None,
    *,
    overdue: str,
) -> RolloutStatus:
    """What is known of versions after another look.

    Args:
        desired: hash of the model as its document is now; `version` is that of the document.
        trouble: of the pods of `desired`.
        overdue: what the Deployment says if it has made no progress for longer than it may. It
            knows of no downloads, which may take their time, and loads have a limit of their own.
    """
    new = [pod for pod in pods if pod.hash == desired]
    if any(pod.is_ready for pod in new):
        return RolloutStatus(hash=desired, version=version)
    if any(pod.is_downloading or pod.is_loading for pod in new):
        overdue = ""
    if before.failed_hash not in ("", desired):
        return RolloutStatus(hash=before.hash, version=before.version)
    has_way_back = before.hash not in ("", desired)
    if has_way_back and not before.failed_hash and (why := _failure(trouble, overdue)):
        return before.model_copy(update={"failed_hash": desired, "failed_message": why})
    return before


def running(rollout: RolloutStatus, desired: str) -> str:
    """The hash of the version that shall run."""
    return rollout.hash if rollout.failed_hash == desired else desired


def _failure(trouble: Trouble | None, overdue: str) -> str:
    """Why a version counts as failed; empty while it does not."""
    if trouble is None:
        return overdue
    patience = _PATIENCE.get(trouble.reason)
    is_hopeless = patience is not None and trouble.pod.restarts >= patience
    return f"{trouble.reason}: {trouble.message}" if is_hopeless or overdue else ""


def template_of(replica_sets: Sequence[Manifest], deployment_uid: str) -> Manifest | None:
    """The pod template of the latest of a Deployment's ReplicaSets; None if none is its."""
    found = [
        replica_set
        for replica_set in replica_sets
        for owner in replica_set["metadata"].get("ownerReferences", ())
        if owner["uid"] == deployment_uid
    ]
    if not found:
        return None
    template: Manifest = max(found, key=_revision)["spec"]["template"]
    metadata = template["metadata"]
    labels = {name: v for name, v in metadata["labels"].items() if name != _LABEL_OF_REPLICA_SET}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _revision(replica_set: Manifest) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, 0))
