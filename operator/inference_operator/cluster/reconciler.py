"""One converging look at a model: observe, decide, act, report.

It serves create, update, resume and drift alike, and writes nothing when nothing differs.
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
from inference_operator.cluster.resource import Homeless, Refusal, Resource, parse
from inference_operator.cluster.scaling_loop import ScalingLoop, Tracked
from inference_operator.cluster.settings import ClusterSettings

log = logging.getLogger(__name__)


class Reconciler:
    """A key is worked on by one thread at a time."""

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
        self._left: dict[Key, str] = {}
        """Models of other releases, of which an event has told."""

    def __call__(self, key: Key) -> float | None:
        """Seconds until it wants another look, inf if that does not matter; None if it is gone.

        Raises:
            ClusterError, Refusal: to be tried again.
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
        """Namespaces that another release works on, and which."""
        return self._tenancy.foreign

    def disturbed(self, key: Key) -> None:
        """One of its supporting children is not as it was."""
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
        """The model's status; None until its load was read for the first time."""
        try:
            owner = self._mirror.owner(key[0])
            resource = parse(found, owner, self._mirror.home(owner))
        except Refusal as refusal:
            self._scaling.forget(key)
            if isinstance(refusal, Homeless):
                self._applier.retire(key)
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
        # Of one without our label the mirror does not know.
        deployment = self._mirror.deployment(parent.namespace, parent.child)
        at_birth = resource.model.spec.min_replicas
        replicas = deployment["spec"].get("replicas", 1) if deployment else at_birth
        self._scaling.track(resource.key, Tracked(resource.model, replicas))
        if (seen := self._scaling.seen(resource.key)) is None:
            return None
        return self._observer.look(resource, deployment, seen, before, now)

    def _act(self, found: Observation, plan: Plan) -> None:
        """What a pod needs comes first, then whoever makes pods. Raises Refusal, ClusterError."""
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
        """Another release works here: not even the status is ours."""
        self._scaling.forget(key)
        if self._left.get(key) != holder:
            self._left[key] = holder
            note = tenancy.words(key[0], holder)[:MAX_NOTE]
            self._emit(key, uid, KubernetesEvent("Warning", "OtherRelease", note))

    def _forget(self, key: Key) -> None:
        """The garbage collector removes the children, and the pods end their work meanwhile."""
        self._scaling.forget(key)
        self._observer.forget(key)
        self._applier.forget(key)
        self._access.forget(key)
        self._left.pop(key, None)
        if self._mirror.model(key) is None and not self._mirror.pods(key):
            self._applier.remove_policy(key)
            if self._mirror.is_empty(key[0]):
                self._applier.open(key[0])
            self._access.tidy()

    def _report(
        self,
        key: Key,
        uid: str,
        before: InferenceModelStatus | None,
        status: InferenceModelStatus | None,
    ) -> None:
        """Writes nothing if there is no news."""
        if status is None or status == before:
            return
        if self._applier.write_status(key, uid, status):
            for event in events.transitions(before, status):
                self._emit(key, uid, event)

    def _emit(self, key: Key, uid: str, event: KubernetesEvent) -> None:
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
