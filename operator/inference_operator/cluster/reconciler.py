"""The reconcile of a model: observe, decide, act, report.

It is the same for create, update, resume and drift, and writes nothing when nothing differs.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from pydantic import ValidationError

from inference_contract.inferencemodel import InferenceModelStatus
from inference_operator.cluster import events, tenancy
from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.objects import MAX_NOTE, Key, KubernetesEvent, Manifest
from inference_operator.cluster.apply.applier import Applier
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.conditions import refused
from inference_operator.cluster.decide import Plan, decide
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.observe import Observation, Observer
from inference_operator.cluster.redis_access import RedisAccess
from inference_operator.cluster.resource import Refusal, Resource, Unowned, parse
from inference_operator.cluster.scaling_loop import ScalingLoop, Tracked
from inference_operator.cluster.settings import ClusterSettings

log = logging.getLogger(__name__)


class Reconciler:
    """One thread at a time works on a key."""

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        scaling: ScalingLoop,
        access: RedisAccess,
        settings: ClusterSettings,
        metrics: ClusterMetrics,
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._scaling = scaling
        self._access = access
        self._metrics = metrics
        self._observer = Observer(cluster, mirror, access, settings)
        self._applier = Applier(cluster, mirror, metrics, settings)
        self._tenancy = tenancy.Tenancy(cluster, settings.release)
        self._foreign_models: dict[Key, str] = {}
        """Models of other releases that have an event about it."""

    def __call__(self, key: Key) -> float | None:
        """Reconcile the model. Returns the seconds until the next reconcile at the latest; inf
        without a limit, None if the model is deleted.

        Raises:
            ClusterError, Refusal: the caller retries.
        """
        with self._metrics.seconds.time():
            try:
                again = self._reconcile(key)
            except Exception:
                self._metrics.looks.labels("error").inc()
                raise
        self._metrics.looks.labels("ok").inc()
        return again

    @property
    def foreign(self) -> dict[str, str]:
        """Namespaces that another release manages, each with that release."""
        return self._tenancy.foreign

    def child_changed(self, key: Key) -> None:
        """A supporting child of the model has changed."""
        self._applier.forget(key)
        self._access.forget(key)

    def _reconcile(self, key: Key) -> float | None:
        found = self._mirror.model(key)
        if found is None or "deletionTimestamp" in found["metadata"]:
            self._forget(key)
            return None
        if holder := self._tenancy.other(key[0]):
            self._leave(key, found["metadata"]["uid"], holder)
            return tenancy.LOOK_AGAIN
        before = _status_of(found)
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            status = self._converge(key, found, before or InferenceModelStatus(), now)
        except Refusal as refusal:
            generation = found["metadata"].get("generation", 0)
            status = refused(refusal.reason, str(refusal), generation, before, now)
            self._report(key, found["metadata"]["uid"], before, status)
            if refusal.may_pass:
                raise
        else:
            self._report(key, found["metadata"]["uid"], before, status)
        return self._observer.again(key, now)

    def _converge(
        self, key: Key, found: Manifest, before: InferenceModelStatus, now: datetime
    ) -> InferenceModelStatus | None:
        """The model's status; None until the first reading of its load."""
        try:
            owner = self._mirror.owner(key[0])
            resource = parse(found, owner, self._mirror.home(owner))
        except Refusal as refusal:
            self._scaling.forget(key)
            if isinstance(refusal, Unowned):
                self._applier.scale_to_zero(key)
            raise
        if (observed := self._observe(resource, before, now)) is None:
            return None
        plan = decide(observed)
        self._act(observed, plan)
        return plan.status

    def _observe(
        self, resource: Resource, before: InferenceModelStatus, now: datetime
    ) -> Observation | None:
        parent = resource.parent
        # The mirror does not have a Deployment without our label.
        deployment = self._mirror.deployment(parent.namespace, parent.child)
        at_birth = resource.model.spec.min_replicas
        replicas = deployment["spec"].get("replicas", 1) if deployment else at_birth
        self._scaling.track(resource.key, Tracked(resource.model, replicas))
        if (seen := self._scaling.seen(resource.key)) is None:
            return None
        return self._observer.observe(resource, deployment, seen, before, now)

    def _act(self, found: Observation, plan: Plan) -> None:
        """Apply what pods need, then the Deployment. Raises Refusal, ClusterError."""
        resource = found.resource
        if plan.lacks_config:
            self._applier.forget(resource.key)
        self._applier.support(resource, found.children, is_new=found.is_new)
        self._access.open(resource, found.redis_url)
        event = self._applier.deploy(
            resource, found.deployment, plan.deployment, found.seen.decision
        )
        if event:
            self._emit(resource.key, resource.parent.uid, event)

    def _leave(self, key: Key, uid: str, holder: str) -> None:
        """Another release manages the namespace: write only an event, not even the status."""
        self._scaling.forget(key)
        if self._foreign_models.get(key) != holder:
            self._foreign_models[key] = holder
            note = tenancy.message(key[0], holder)[:MAX_NOTE]
            self._emit(key, uid, KubernetesEvent("Warning", "OtherRelease", note))

    def _forget(self, key: Key) -> None:
        """Clean up after a deleted model. The garbage collector removes the owned children; the
        pods finish their predictions."""
        self._scaling.forget(key)
        self._observer.forget(key)
        self._applier.forget(key)
        self._access.forget(key)
        self._foreign_models.pop(key, None)
        if self._mirror.model(key) is None and not self._mirror.pods(key):
            self._applier.remove_policy(key)
            if self._mirror.is_empty(key[0]):
                self._applier.remove_closed_policy(key[0])
            self._access.remove_orphans()

    def _report(
        self,
        key: Key,
        uid: str,
        before: InferenceModelStatus | None,
        status: InferenceModelStatus | None,
    ) -> None:
        """Write status and events if the status has changed."""
        if status is None or status == before:
            return
        if self._applier.write_status(key, uid, status):
            for event in events.transitions(before, status):
                self._emit(key, uid, event)

    def _emit(self, key: Key, uid: str, event: KubernetesEvent) -> None:
        """Write an event. A failure is logged and not retried."""
        log.info("%s: %s", event.reason, event.note, extra={"model": "/".join(key)})
        try:
            self._cluster.emit(key, uid, event)
        except ClusterError as error:
            log.warning("event %s is lost: %s", event.reason, error)
            return
        self._metrics.writes.labels("event").inc()


def _status_of(found: Manifest) -> InferenceModelStatus | None:
    """The stored status; None if it is missing or has another version's format."""
    try:
        return InferenceModelStatus.model_validate(found["status"]) if "status" in found else None
    except ValidationError:
        return None
