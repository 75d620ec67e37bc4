"""One converging look at a model: read it, plan, apply what differs, scale, tell what is true.

It serves create, update, resume and drift alike, and writes nothing when nothing differs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import ValidationError

from inference_contract.inferencemodel import InferenceModelStatus, Reason
from inference_operator import events, pod_conditions, runner_pods
from inference_operator.children import Children, children
from inference_operator.cluster import Cluster, ClusterError
from inference_operator.drift import needs_apply
from inference_operator.fleet import Enrolled, Fleet, Seen
from inference_operator.kinds import Kind
from inference_operator.kube_metrics import KubeMetrics
from inference_operator.kube_settings import KubeSettings
from inference_operator.manifests.cache_claim import may_grow
from inference_operator.manifests.child import Manifest
from inference_operator.resources import Refusal, Resource, claim, parse
from inference_operator.runner_pods import RunnerPod, Trouble
from inference_operator.work_queue import Key

log = logging.getLogger(__name__)

_UNPROCESSABLE = 422


class Reconciler:
    def __init__(
        self, cluster: Cluster, fleet: Fleet, settings: KubeSettings, metrics: KubeMetrics
    ) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._settings = settings
        self._metrics = metrics
        self._tails: dict[Key, tuple[str, int, list[str]]] = {}
        """Pod, its restarts, and the log lines before the last of them."""

    def __call__(self, key: Key) -> bool:
        """Whether the model is still there.

        Raises:
            ClusterError: to be tried again.
        """
        with self._metrics.seconds.time():
            try:
                exists = self._look(key)
            except Exception:
                self._metrics.looks.labels("error").inc()
                raise
        self._metrics.looks.labels("ok").inc()
        return exists

    def _look(self, key: Key) -> bool:
        found = self._cluster.get(Kind.MODEL, *key)
        if found is None or "deletionTimestamp" in found["metadata"]:
            self._fleet.dismiss(key)
            self._tails.pop(key, None)
            return False
        previous = _status_of(found)
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            status = self._converge(key, found, previous, now)
        except Refusal as refusal:
            generation = found["metadata"].get("generation", 0)
            status = pod_conditions.refused(refusal.reason, str(refusal), generation, previous, now)
        if status is not None and status != previous:
            self._report(key, found["metadata"]["uid"], previous, status)
        return True

    def _converge(
        self,
        key: Key,
        found: Manifest,
        previous: InferenceModelStatus | None,
        now: datetime,
    ) -> InferenceModelStatus | None:
        """The model's status; None until its load was read for the first time."""
        try:
            labels = self._cluster.namespace_labels(key[0])
            resource = parse(found, labels)
            desired = children(resource, self._settings)
        except Refusal:
            self._fleet.dismiss(key)
            raise
        observed = {kind: self._observe(kind, resource) for kind in desired.all}
        deployment = observed[Kind.DEPLOYMENT]
        replicas = deployment["spec"].get("replicas", 1) if deployment else 0
        enrolled = Enrolled(resource.model, resource.created, replicas)
        holder = self._fleet.enroll(key, enrolled)
        if holder != key:
            raise Refusal(
                Reason.NAME_TAKEN,
                f"{resource.model.id} is the older InferenceModel of namespace {holder[0]}, which "
                "has the same owner: delete one of the two, or give it another name",
            )
        if (seen := self._fleet.seen(key)) is None:
            return None
        self._apply(resource, desired, observed, seen)
        return self._status(resource, desired, seen, previous, now)

    def _observe(self, kind: Kind, resource: Resource) -> Manifest | None:
        """Raises Refusal for an object that is not ours."""
        parent = resource.parent
        there = self._cluster.get(kind, parent.namespace, parent.child)
        if there is not None:
            claim(there, parent)
        return there

    def _apply(
        self,
        resource: Resource,
        desired: Children,
        observed: Mapping[Kind, Manifest | None],
        seen: Seen,
    ) -> None:
        for kind, manifest in desired.supporting.items():
            there = observed[kind]
            if kind is Kind.CLAIM and there is not None:
                manifest = may_grow(manifest, there)
            if needs_apply(there, manifest):
                self._write(kind, manifest)
        deployment = observed[Kind.DEPLOYMENT]
        if deployment is None:
            deployment = self._write(Kind.DEPLOYMENT, desired.unborn)
            replicas = 0  # It is paused: the one that the API server gave it makes no pod.
        else:
            replicas = deployment["spec"].get("replicas", 1)
        decision = seen.decision
        if deployment["spec"].get("replicas", 1) != decision.replicas:
            parent = resource.parent
            self._cluster.scale(parent.namespace, parent.child, decision.replicas)
            self._metrics.writes.labels("scale").inc()
        if replicas != decision.replicas:
            self._emit(resource.key, resource.parent.uid, events.scaled(replicas, decision))
        if needs_apply(deployment, desired.deployment):
            self._write(Kind.DEPLOYMENT, desired.deployment)

    def _write(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        try:
            written = self._cluster.apply(kind, manifest)
        except ClusterError as error:
            if error.status != _UNPROCESSABLE:
                raise
            message = f"the cluster refuses the {manifest['kind']}: {error}"
            raise Refusal(Reason.INVALID_MODEL, message) from error
        self._metrics.writes.labels(manifest["kind"]).inc()
        log.info("applied %s %s/%s", manifest["kind"], metadata["namespace"], metadata["name"])
        return written

    def _status(
        self,
        resource: Resource,
        desired: Children,
        seen: Seen,
        previous: InferenceModelStatus | None,
        now: datetime,
    ) -> InferenceModelStatus:
        parent = resource.parent
        found = map(runner_pods.parse, self._cluster.pods(parent.namespace, parent.name))
        pods = sorted((pod for pod in found if pod), key=lambda pod: pod.name)
        trouble = runner_pods.worst(pod for pod in pods if pod.hash == desired.hash)
        if trouble and trouble.has_log:
            trouble = self._with_log(resource.key, trouble)
        no_pods = ""
        if len(pods) < seen.decision.replicas:
            deployment = self._cluster.get(Kind.DEPLOYMENT, parent.namespace, parent.child)
            no_pods = _replica_failure(deployment or {})
        view = pod_conditions.PodView(
            generation=resource.model.metadata.generation,
            decision=seen.decision,
            selector=",".join(f"{key}={value}" for key, value in parent.selector.items()),
            pods=pods,
            hash=desired.hash,
            trouble=trouble,
            load=seen.load,
            no_pods=no_pods,
        )
        return pod_conditions.status(view, previous, now)

    def _with_log(self, key: Key, trouble: Trouble) -> Trouble:
        """With the last words of the runner that failed, which are read once."""
        pod = trouble.pod
        uid, restarts, tail = self._tails.get(key, ("", 0, []))
        if (uid, restarts) != (pod.uid, pod.restarts) or not tail:
            tail = self._read_log(key[0], pod)
            self._tails[key] = (pod.uid, pod.restarts, tail)
        words = runner_pods.last_words(tail) if trouble.reason is Reason.LOAD_FAILED else ""
        message = f"{words}; {trouble.message}" if words else trouble.message
        return replace(trouble, message=message, log_tail=tail)

    def _read_log(self, namespace: str, pod: RunnerPod) -> list[str]:
        previous = pod.end is not None and not pod.end.is_last
        return self._cluster.log_tail(namespace, pod.name, previous=previous)

    def _report(
        self,
        key: Key,
        uid: str,
        previous: InferenceModelStatus | None,
        status: InferenceModelStatus,
    ) -> None:
        self._cluster.write_status(key, status.model_dump(mode="json", by_alias=True))
        self._metrics.writes.labels("status").inc()
        if event := events.transition(previous, status):
            self._emit(key, uid, event)

    def _emit(self, key: Key, uid: str, event: events.Event) -> None:
        """An event that cannot be written is not worth another look."""
        log.info("%s: %s", event.reason, event.note, extra={"model": "/".join(key)})
        try:
            self._cluster.emit(key, uid, event)
        except ClusterError as error:
            log.warning("event %s is lost: %s", event.reason, error)
            return
        self._metrics.writes.labels("event").inc()


def _status_of(found: Manifest) -> InferenceModelStatus | None:
    """The status as it is; None if there is none, or one that another version wrote."""
    try:
        return InferenceModelStatus.model_validate(found["status"]) if "status" in found else None
    except ValidationError:
        return None


def _replica_failure(deployment: Manifest) -> str:
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message", ""))
    return ""
