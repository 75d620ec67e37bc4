"""Applies the children of a model; an unchanged child costs no write."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inference_contract.inferencemodel import InferenceModelStatus, Reason
from inference_operator.cluster import events
from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key, KubernetesEvent, Manifest
from inference_operator.cluster.apply.drift import needs_apply
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.children import APP, Parent, fingerprint
from inference_operator.cluster.manifests.build import Children
from inference_operator.cluster.manifests.cache_claim import may_grow
from inference_operator.cluster.manifests.closed import NAME as CLOSED
from inference_operator.cluster.manifests.closed import closed
from inference_operator.cluster.manifests.deployment import with_replicas
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.pods import deletion_cost
from inference_operator.cluster.pods.diagnosis import refused_for
from inference_operator.cluster.pods.runner_pod import ANNOTATION_COST
from inference_operator.cluster.resource import Refusal, Resource, is_left_to_us, require_ours
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.redis.connection import RedisUnavailable
from inference_operator.scaling.decide import Decision, Why

log = logging.getLogger(__name__)

_UNPROCESSABLE = 422
_REFUSED = (400, 403, 413, _UNPROCESSABLE)
"""HTTP statuses by which the API server, or an admission policy, rejects an object."""
_LACKS_RIGHT = re.compile(r"cannot \w+ resource")


class Applier:
    """Checks a model's supporting children every `resync_seconds`, and when a watch reports a
    change. Secrets are not watched: that needs the right to list all Secrets."""

    def __init__(
        self, cluster: Cluster, mirror: Mirror, metrics: ClusterMetrics, settings: ClusterSettings
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._metrics = metrics
        self._settings = settings
        self._supported: dict[Key, tuple[str, float]] = {}
        """Fingerprint of the applied supporting children, and until when they count as present."""
        self._closed: dict[str, float] = {}
        """Until when the policy for all runners of a namespace counts as present."""

    def support(self, resource: Resource, desired: Children, *, is_new: bool) -> None:
        """Apply the objects that a pod needs before it can start.

        Args:
            is_new: probably none of them exists yet.

        Raises:
            Refusal: an object belongs to another model, or the API server rejects it.
        """
        key, parent = resource.key, resource.parent
        self._apply_closed_policy(parent.namespace)
        wanted = fingerprint([parent.uid, *desired.supporting.values()])
        seen, until = self._supported.get(key, ("", 0.0))
        if seen == wanted and time.monotonic() < until:
            return
        for kind, manifest in desired.supporting.items():
            if is_new and self._write(kind, manifest, self._cluster.apply_new):
                continue
            there = self._ours(kind, parent)
            if there is not None and kind is Kind.CLAIM:
                self._grow(manifest, there)
            elif needs_apply(there, manifest):
                self._write(kind, manifest, self._cluster.apply)
        self._supported[key] = wanted, time.monotonic() + self._settings.resync_seconds / 2

    def _apply_closed_policy(self, namespace: str) -> None:
        """Apply the NetworkPolicy for all runners of the namespace, before the first one starts."""
        if time.monotonic() < self._closed.get(namespace, 0.0):
            return
        manifest = closed(namespace)
        there = self._cluster.get(Kind.NETWORK_POLICY, namespace, manifest["metadata"]["name"])
        if needs_apply(there, manifest):
            self._write(Kind.NETWORK_POLICY, manifest, self._cluster.apply)
        self._closed[namespace] = time.monotonic() + self._settings.resync_seconds / 2

    def deploy(
        self, resource: Resource, there: Manifest | None, manifest: Manifest, decision: Decision
    ) -> KubernetesEvent | None:
        """Apply the Deployment with the decided replicas. Returns an event if their number changed;
        a new model's minimum is no change.

        Raises:
            Refusal: the Deployment belongs to another model, or the API server rejects it.
        """
        parent = resource.parent
        if there is None:
            new = with_replicas(manifest, decision.replicas)
            if self._write(Kind.DEPLOYMENT, new, self._cluster.apply_new):
                at_birth = resource.model.spec.min_replicas
                return events.scaled(0, decision) if decision.replicas != at_birth else None
            there = self._ours(Kind.DEPLOYMENT, parent)
        before = there["spec"].get("replicas", 1) if there else 0
        if there and decision.reason is Why.EXTERNAL:
            decision = Decision(before, Why.EXTERNAL)  # It may have changed since the tick.
        replicas = decision.replicas
        if 0 < replicas < before:
            self._prefer_idle(resource, replicas)
        if needs_apply(there, manifest):
            self._write(Kind.DEPLOYMENT, with_replicas(manifest, replicas), self._cluster.apply)
        elif there is not None and before != replicas:
            self._scale(parent, there, replicas)
        return events.scaled(before, decision) if replicas != before else None

    def scale_to_zero(self, key: Key) -> None:
        """Scale the model to zero: its runners finish their predictions and claim no more."""
        parent = Parent(*key, uid="")
        there = self._mirror.deployment(parent.namespace, parent.child)
        if there is not None and there["spec"].get("replicas", 1):
            self._scale(parent, there, 0)

    def write_status(self, key: Key, uid: str, status: InferenceModelStatus) -> bool:
        """Whether it was written. It is not if the model was replaced or has a newer version: that
        change puts the key on the work queue again."""
        known = self._mirror.model(key)
        if known is None or known["metadata"]["uid"] != uid:
            return False
        version = known["metadata"]["resourceVersion"]
        content = status.model_dump(mode="json", by_alias=True)
        written = self._cluster.write_status(key, version, content)
        if written is None:
            return False
        self._mirror.put(Kind.MODEL, written)
        self._metrics.writes.labels("status").inc()
        return True

    def remove_policy(self, key: Key) -> None:
        """Remove the NetworkPolicy, the one child that the garbage collector does not remove."""
        parent = Parent(*key, uid="")
        there = self._cluster.get(Kind.NETWORK_POLICY, parent.namespace, parent.child)
        if there is not None and is_left_to_us(there, parent):
            self._cluster.delete(Kind.NETWORK_POLICY, parent.namespace, parent.child)
            self._metrics.writes.labels(there["kind"]).inc()

    def remove_closed_policy(self, namespace: str) -> None:
        """Remove the policy for all runners: the namespace has no runners any more."""
        self._closed.pop(namespace, None)
        there = self._cluster.get(Kind.NETWORK_POLICY, namespace, CLOSED)
        if there is not None and APP.items() <= there["metadata"].get("labels", {}).items():
            self._cluster.delete(Kind.NETWORK_POLICY, namespace, CLOSED)
            self._metrics.writes.labels(there["kind"]).inc()

    def forget(self, key: Key) -> None:
        self._supported.pop(key, None)
        self._closed.pop(key[0], None)

    def _ours(self, kind: Kind, parent: Parent) -> Manifest | None:
        """The existing child. Raises Refusal if the object is not this model's."""
        there = self._cluster.get(kind, parent.namespace, parent.child)
        if there is not None:
            require_ours(there, parent)
        return there

    def _grow(self, wanted: Manifest, there: Manifest) -> None:
        """Enlarge a volume claim. One that cannot be changed is used as it is."""
        grown = may_grow(wanted, there)
        if not needs_apply(there, grown):
            return
        try:
            self._write(Kind.CLAIM, grown, self._cluster.apply)
        except Refusal as refusal:
            namespace, name = grown["metadata"]["namespace"], grown["metadata"]["name"]
            log.warning("claim %s/%s stays as it is: %s", namespace, name, refusal)

    def _prefer_idle(self, resource: Resource, wanted: int) -> None:
        """Set the pods' deletion costs so that idle pods are removed first. Without Redis any pod
        may be removed; it drains."""
        pods = self._mirror.pods(resource.key)
        names = [pod.name for pod in pods]
        try:
            running = deletion_cost.running_by_pod(
                self._settings.redis_url, resource.model.id, names
            )
        except RedisUnavailable as error:
            log.warning("busy pods may be removed before idle ones: %s", error)
            return
        for pod, cost in deletion_cost.costs(pods, running, wanted).items():
            self._cluster.annotate(resource.parent.namespace, pod, {ANNOTATION_COST: cost})
            self._metrics.writes.labels("cost").inc()

    def _scale(self, parent: Parent, deployment: Manifest, replicas: int) -> None:
        with _refusals(deployment["kind"]):
            scaled = self._cluster.scale(parent.namespace, parent.child, replicas)
        self._metrics.writes.labels("scale").inc()
        version = scaled["metadata"]["resourceVersion"]
        known = {
            **deployment,
            "metadata": {**deployment["metadata"], "resourceVersion": version},
            "spec": {**deployment["spec"], "replicas": replicas},
        }
        self._mirror.put(Kind.DEPLOYMENT, known)

    def _write(
        self, kind: Kind, manifest: Manifest, apply: Callable[[Kind, Manifest], Manifest | None]
    ) -> bool:
        """Whether it was written."""
        metadata = manifest["metadata"]
        with _refusals(manifest["kind"]):
            written = apply(kind, manifest)
        if written is None:
            return False
        if kind is Kind.DEPLOYMENT:
            self._mirror.put(kind, written)
        self._metrics.writes.labels(manifest["kind"]).inc()
        log.info("applied %s %s/%s", manifest["kind"], metadata["namespace"], metadata["name"])
        return True


@contextmanager
def _refusals(kind: str) -> Iterator[None]:
    """Raise Refusal for an error that the model's status must report."""
    try:
        yield
    except ClusterError as error:
        if (refusal := _refusal(kind, error)) is None:
            raise
        raise refusal from error


def _refusal(kind: str, error: ClusterError) -> Refusal | None:
    """None if a retry may succeed, or if the namespace is being deleted."""
    said = str(error)
    if error.status not in _REFUSED or "is being terminated" in said:
        return None
    if _LACKS_RIGHT.search(said):
        message = f"the operator lacks the right to write the {kind}: {said}"
        return Refusal(Reason.OPERATOR_LACKS_RIGHT, message, may_pass=True)
    message = f"the cluster refuses the {kind}: {said}"
    reason = refused_for(said, Reason.INVALID_MODEL)
    return Refusal(reason, message, may_pass=error.status != _UNPROCESSABLE)
