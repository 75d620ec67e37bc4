"""Makes the children of a model what they shall be; what is so already costs no write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from inference_contract.inferencemodel import InferenceModelStatus, Reason
from inference_operator import events, retirement
from inference_operator.autoscale import Decision, Why
from inference_operator.children import Children
from inference_operator.cluster import Cluster, ClusterError
from inference_operator.drift import needs_apply
from inference_operator.kinds import Kind
from inference_operator.kube_metrics import KubeMetrics
from inference_operator.kube_settings import KubeSettings
from inference_operator.manifests.cache_claim import may_grow
from inference_operator.manifests.child import Manifest, Parent, fingerprint
from inference_operator.manifests.deployment import with_replicas
from inference_operator.mirror import Mirror
from inference_operator.redis_link import RedisUnavailable
from inference_operator.resources import Refusal, Resource, claim, is_left_to_us
from inference_operator.runner_pods import ANNOTATION_COST
from inference_operator.work_queue import Key

log = logging.getLogger(__name__)

_UNPROCESSABLE = 422


class Applier:
    """Looks at a model's supporting children again within `resync_seconds`: no watch tells of
    their drift, for the operator shall not list everybody's Secrets."""

    def __init__(
        self, cluster: Cluster, mirror: Mirror, metrics: KubeMetrics, settings: KubeSettings
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._metrics = metrics
        self._settings = settings
        self._supported: dict[Key, tuple[str, float]] = {}
        """What was seen to be there, and until when that counts."""

    def support(self, resource: Resource, desired: Children, *, is_new: bool) -> None:
        """What a pod needs before it can start.

        Args:
            is_new: probably nothing is there yet.

        Raises:
            Refusal: for an object that is not ours, or that the API server does not take.
        """
        key, parent = resource.key, resource.parent
        wanted = fingerprint([parent.uid, *desired.supporting.values()])
        seen, until = self._supported.get(key, ("", 0.0))
        if seen == wanted and time.monotonic() < until:
            return
        for kind, manifest in desired.supporting.items():
            if is_new and self._write(kind, manifest, self._cluster.apply_new):
                continue
            there = self._ours(kind, parent)
            if there is not None and kind is Kind.CLAIM:
                manifest = may_grow(manifest, there)
            if needs_apply(there, manifest):
                self._write(kind, manifest, self._cluster.apply)
        self._supported[key] = wanted, time.monotonic() + self._settings.resync_seconds / 2

    def deploy(
        self, resource: Resource, there: Manifest | None, manifest: Manifest, decision: Decision
    ) -> events.Event | None:
        """The Deployment, with as many replicas as were decided; an event if that is a change: a
        model is born with its minimum.

        Raises:
            Refusal: for one that is not ours, or if the API server does not take it.
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
            decision = Decision(before, Why.EXTERNAL)  # It may have changed since the last tick.
        replicas = decision.replicas
        if 0 < replicas < before:
            self._spare_busy(resource, replicas)
        if needs_apply(there, manifest):
            self._write(Kind.DEPLOYMENT, with_replicas(manifest, replicas), self._cluster.apply)
        elif there is not None and before != replicas:
            self._scale(parent, there, replicas)
        return events.scaled(before, decision) if replicas != before else None

    def write_status(self, key: Key, status: InferenceModelStatus) -> None:
        written = self._cluster.write_status(key, status.model_dump(mode="json", by_alias=True))
        if written is not None:
            self._mirror.put(Kind.MODEL, written)
        self._metrics.writes.labels("status").inc()

    def remove_policy(self, key: Key) -> None:
        """The one child that no garbage collector removes."""
        parent = Parent(*key, uid="")
        there = self._cluster.get(Kind.NETWORK_POLICY, parent.namespace, parent.child)
        if there is not None and is_left_to_us(there, parent):
            self._cluster.delete(Kind.NETWORK_POLICY, parent.namespace, parent.child)
            self._metrics.writes.labels(there["kind"]).inc()

    def forget(self, key: Key) -> None:
        self._supported.pop(key, None)

    def _ours(self, kind: Kind, parent: Parent) -> Manifest | None:
        """Raises Refusal if what is there is not this model's."""
        there = self._cluster.get(kind, parent.namespace, parent.child)
        if there is not None:
            claim(there, parent)
        return there

    def _spare_busy(self, resource: Resource, wanted: int) -> None:
        """Tell the cluster which pods are idle; without Redis any may go, and drains."""
        try:
            running = retirement.running_by_pod(self._settings.redis_url, resource.model.id)
        except RedisUnavailable as error:
            log.warning("busy pods may go before idle ones: %s", error)
            return
        pods = self._mirror.pods(resource.key)
        for pod, cost in retirement.costs(pods, running, wanted).items():
            self._cluster.annotate(resource.parent.namespace, pod, {ANNOTATION_COST: cost})
            self._metrics.writes.labels("cost").inc()

    def _scale(self, parent: Parent, deployment: Manifest, replicas: int) -> None:
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
        try:
            written = apply(kind, manifest)
        except ClusterError as error:
            if error.status != _UNPROCESSABLE:
                raise
            message = f"the cluster refuses the {manifest['kind']}: {error}"
            raise Refusal(Reason.INVALID_MODEL, message) from error
        if written is None:
            return False
        if kind is Kind.DEPLOYMENT:
            self._mirror.put(kind, written)
        self._metrics.writes.labels(manifest["kind"]).inc()
        log.info("applied %s %s/%s", manifest["kind"], metadata["namespace"], metadata["name"])
        return True
