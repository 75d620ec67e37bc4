"""Which version of a changed model runs: pure.

A change that does not become ready is rolled back: with one replica and no spare GPU the old pod
ends before the new one can fail, so that without a rollback no pod would serve.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import inf

from inference_contract.inferencemodel import Reason, RolloutStatus
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.runner_pod import RunnerPod

_PATIENCE = {
    Reason.LOAD_FAILED: 1,
    Reason.OOM_KILLED: 1,
    Reason.CRASH_LOOP_BACK_OFF: 1,
}
"""Restarts by the kubelet after which a version counts as failed, by reason. Reasons that time or
free capacity may resolve are not listed: they have until the Deployment's progress deadline."""
_NEVER_PULLED = {"InvalidImageName", "ErrImageNeverPull"}
_NO_IMAGE = re.compile(
    # Messages of containerd, CRI-O and Docker for a registry's answer about the image itself.
    # Later errors, with its layers, are as often the node's or the network's fault.
    r"(failed to resolve reference|reading manifest \S+ in|response from daemon:).*[\s(]"
    r"(not found|(manifest|name) unknown|(?<!permission )denied|unauthorized|forbidden)"
    r"|invalid reference format",
    re.IGNORECASE,
)
_NO_CONFIG = re.compile(
    # The kubelet's messages for missing or forbidden objects that the pod's document names.
    r'(?:secret|configmap) "(?P<object>[^"]+)" not found'
    r"|couldn't find key \S+ in (?:Secret|ConfigMap) [^/\s]+/(?P<holder>\S+)"
    r"|runAsNonRoot and image (?:will run as root|has non-numeric user)"
)
_LABEL_OF_REPLICA_SET = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def assess(
    before: RolloutStatus,
    desired: str,
    version: str,
    pods: Iterable[RunnerPod],
    problem: PodProblem | None,
    *,
    overdue: str,
    own: str = "",
) -> RolloutStatus:
    """The new state of the rollout.

    Args:
        desired: hash of the model by its document; `version` is the document's version.
        problem: the problem of the pods of `desired`.
        overdue: the Deployment's message if its progress deadline has passed. It ignores downloads,
            which may take long; loads have a limit of their own.
        own: name of the Secret that the operator creates for the pods; a missing one is created
            again.
    """
    new = [pod for pod in pods if pod.hash == desired]
    if any(pod.is_ready for pod in new):
        return RolloutStatus(hash=desired, version=version)
    if any(pod.is_downloading or pod.is_loading for pod in new):
        overdue = ""
    if before.failed_hash not in ("", desired):
        return RolloutStatus(hash=before.hash, version=before.version)
    has_way_back = before.hash not in ("", desired)
    if has_way_back and not before.failed_hash and (why := _failure(problem, overdue, own)):
        return before.model_copy(update={"failed_hash": desired, "failed_message": why})
    return before


def running(rollout: RolloutStatus, desired: str) -> str:
    """The hash of the version to run."""
    return rollout.hash if rollout.failed_hash == desired else desired


def _failure(problem: PodProblem | None, overdue: str, own: str) -> str:
    """Why a version counts as failed; empty while it does not."""
    if problem is None:
        return overdue
    is_over = overdue or _is_hopeless(problem, own)
    return f"{problem.reason}: {problem.message}" if is_over else ""


def _is_hopeless(problem: PodProblem, own: str) -> bool:
    if problem.reason is Reason.IMAGE_PULL_BACK_OFF:
        return has_no_image(*problem.pod.waiting)
    if problem.reason is Reason.CREATE_CONTAINER_CONFIG_ERROR:
        return lacks_config(problem.pod.waiting[1], own)
    return problem.pod.restarts >= _PATIENCE.get(problem.reason, inf)


def has_no_image(reason: str, message: str) -> bool:
    """Whether a pod can never get its image: the image does not exist, or access is denied. An
    unreachable or overloaded registry may answer later.

    Args:
        reason: the kubelet's reason.
        message: the container runtime's message.
    """
    return reason in _NEVER_PULLED or _NO_IMAGE.search(message) is not None


def lacks_config(message: str, own: str) -> bool:
    """Whether the kubelet's message says that an object which the document names is missing. Errors
    of the API server do not count, nor does the Secret `own`."""
    found = _NO_CONFIG.search(message)
    return found is not None and own not in found.groups()


def template_of(replica_sets: Sequence[Manifest], deployment_uid: str) -> Manifest | None:
    """The pod template of the Deployment's latest ReplicaSet; None if it has none."""
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
