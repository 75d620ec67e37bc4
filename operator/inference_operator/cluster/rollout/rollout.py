"""Which version of a changed model runs: pure.

A change that does not become ready is taken back: with one replica and no spare GPU the old one has
gone before the new one could fail, so that waiting would leave nothing that serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import inf

from inference_contract.inferencemodel import Reason, RolloutStatus
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.pods.diagnosis import Trouble
from inference_operator.cluster.pods.runner_pod import RunnerPod

_PATIENCE = {
    Reason.LOAD_FAILED: 1,
    Reason.OOM_KILLED: 1,
    Reason.CRASH_LOOP_BACK_OFF: 1,
}
"""How often the kubelet may start such a pod again before its version counts as failed. What time
or room may heal is not here: it has until the Deployment's progress deadline."""
_NEVER_PULLED = {"InvalidImageName", "ErrImageNeverPull"}
_NO_IMAGE = re.compile(
    # How containerd, CRI-O and Docker begin to tell of a registry's answer about the image itself.
    # What fails later, with its layers, is as often the node's or the network's fault.
    r"(failed to resolve reference|reading manifest \S+ in|response from daemon:).*[\s(]"
    r"(not found|(manifest|name) unknown|(?<!permission )denied|unauthorized|forbidden)"
    r"|invalid reference format",
    re.IGNORECASE,
)
_NO_CONFIG = re.compile(
    # How the kubelet tells of what a pod's document names and is not there, or may not be.
    r'(?:secret|configmap) "(?P<object>[^"]+)" not found'
    r"|couldn't find key \S+ in (?:Secret|ConfigMap) [^/\s]+/(?P<holder>\S+)"
    r"|runAsNonRoot and image (?:will run as root|has non-numeric user)"
)
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
    own: str = "",
) -> RolloutStatus:
    """What is known of versions after another look.

    Args:
        desired: hash of the model as its document is now; `version` is that of the document.
        trouble: of the pods of `desired`.
        overdue: what the Deployment says if it has made no progress for longer than it may. It
            knows of no downloads, which may take their time, and loads have a limit of their own.
        own: the Secret that the operator itself makes for the pods: it is there again soon.
    """
    new = [pod for pod in pods if pod.hash == desired]
    if any(pod.is_ready for pod in new):
        return RolloutStatus(hash=desired, version=version)
    if any(pod.is_downloading or pod.is_loading for pod in new):
        overdue = ""
    if before.failed_hash not in ("", desired):
        return RolloutStatus(hash=before.hash, version=before.version)
    has_way_back = before.hash not in ("", desired)
    if has_way_back and not before.failed_hash and (why := _failure(trouble, overdue, own)):
        return before.model_copy(update={"failed_hash": desired, "failed_message": why})
    return before


def running(rollout: RolloutStatus, desired: str) -> str:
    """The hash of the version that shall run."""
    return rollout.hash if rollout.failed_hash == desired else desired


def _failure(trouble: Trouble | None, overdue: str, own: str) -> str:
    """Why a version counts as failed; empty while it does not."""
    if trouble is None:
        return overdue
    is_over = overdue or _is_hopeless(trouble, own)
    return f"{trouble.reason}: {trouble.message}" if is_over else ""


def _is_hopeless(trouble: Trouble, own: str) -> bool:
    if trouble.reason is Reason.IMAGE_PULL_BACK_OFF:
        return has_no_image(*trouble.pod.waiting)
    if trouble.reason is Reason.CREATE_CONTAINER_CONFIG_ERROR:
        return lacks_config(trouble.pod.waiting[1], own)
    return trouble.pod.restarts >= _PATIENCE.get(trouble.reason, inf)


def has_no_image(reason: str, message: str) -> bool:
    """Whether no waiting gives a pod its image: there is none, or it may not have it. A registry
    that does not answer, or has too much to do, may answer later.

    Args:
        reason: the kubelet's, as `message`: the words of the container runtime.
    """
    return reason in _NEVER_PULLED or _NO_IMAGE.search(message) is not None


def lacks_config(message: str, own: str) -> bool:
    """Whether a container lacks what its document names, by the kubelet's words; not what it could
    not ask the API server for, nor what `own` holds."""
    found = _NO_CONFIG.search(message)
    return found is not None and own not in found.groups()


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
