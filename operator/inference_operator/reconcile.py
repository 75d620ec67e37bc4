"""One converging look at a model: read it, plan, apply what differs, scale, tell what is true.

It serves create, update, resume and drift alike, and writes nothing when nothing differs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from pydantic import ValidationError

from inference_contract.inferencemodel import InferenceModelStatus, Reason, RolloutStatus
from inference_operator import events, pod_conditions, rollout, runner_pods, tenancy, troubles
from inference_operator.applier import Applier
from inference_operator.children import Children, children
from inference_operator.cluster import Cluster, ClusterError
from inference_operator.downloads import Downloads
from inference_operator.fleet import Enrolled, Fleet, Seen
from inference_operator.kube_metrics import KubeMetrics
from inference_operator.kube_settings import KubeSettings
from inference_operator.manifests.child import Manifest
from inference_operator.mirror import Mirror
from inference_operator.resources import Homeless, Refusal, Resource, claim, parse
from inference_operator.runner_access import RunnerAccess
from inference_operator.runner_logs import RunnerLogs
from inference_operator.runner_pods import RunnerPod
from inference_operator.troubles import Trouble
from inference_operator.versions import Versions
from inference_operator.work_queue import Key

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Look:
    """What one look works with."""

    resource: Resource
    desired: Children
    deployment: Manifest | None
    pods: list[RunnerPod]
    evicted: list[RunnerPod]
    seen: Seen
    before: InferenceModelStatus


class Reconciler:
    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        fleet: Fleet,
        access: RunnerAccess,
        settings: KubeSettings,
        metrics: KubeMetrics,
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._fleet = fleet
        self._access = access
        self._settings = settings
        self._metrics = metrics
        self._applier = Applier(cluster, mirror, metrics, settings)
        self._logs = RunnerLogs(cluster.log_tail)
        self._versions = Versions(cluster)
        self._tenancy = tenancy.Tenancy(cluster, settings.release)
        self._left: dict[Key, str] = {}
        """Models of other releases, of which an event has told."""
        self._downloads = Downloads(partial(cluster.log_tail, previous=False))

    def __call__(self, key: Key) -> float | None:
        """Seconds until it wants another look, inf if that does not matter; None if it is gone.

        Raises:
            ClusterError, Refusal: to be tried again.
        """
        with self._metrics.seconds.time():
            try:
                again = self._look(key)
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

    def _look(self, key: Key) -> float | None:
        found = self._mirror.model(key)
        if found is None or "deletionTimestamp" in found["metadata"]:
            self._farewell(key)
            return None
        if holder := self._tenancy.other(key[0]):
            self._leave(key, found["metadata"]["uid"], holder)
            return tenancy.LOOK_AGAIN
        previous = _status_of(found)
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            status = self._converge(key, found, previous or InferenceModelStatus(), now)
        except Refusal as refusal:
            generation = found["metadata"].get("generation", 0)
            status = pod_conditions.refused(refusal.reason, str(refusal), generation, previous, now)
            self._report(key, found["metadata"]["uid"], previous, status)
            if refusal.may_pass:
                raise
        else:
            self._report(key, found["metadata"]["uid"], previous, status)
        overdue = runner_pods.next_overdue(self._mirror.pods(key), now)
        return min(self._downloads.again(key), self._logs.again(key), overdue)

    def _leave(self, key: Key, uid: str, holder: str) -> None:
        """Another release works here: not even the status is ours."""
        self._fleet.dismiss(key)
        if self._left.get(key) != holder:
            self._left[key] = holder
            note = tenancy.words(key[0], holder)[: events.MAX_NOTE]
            self._emit(key, uid, events.Event("Warning", "OtherRelease", note))

    def _farewell(self, key: Key) -> None:
        """The garbage collector removes the children, and the pods end their work meanwhile."""
        self._fleet.dismiss(key)
        self._logs.forget(key)
        self._versions.forget(key)
        self._downloads.forget(key)
        self._applier.forget(key)
        self._access.forget(key)
        self._left.pop(key, None)
        if self._mirror.model(key) is None and not self._mirror.pods(key):
            self._applier.remove_policy(key)
            if self._mirror.is_empty(key[0]):
                self._applier.open(key[0])
            self._access.tidy()

    def _converge(
        self, key: Key, found: Manifest, before: InferenceModelStatus, now: datetime
    ) -> InferenceModelStatus | None:
        """The model's status; None until its load was read for the first time."""
        try:
            owner = self._mirror.owner(key[0])
            resource = parse(found, owner, self._mirror.home(owner))
        except Refusal as refusal:
            self._fleet.dismiss(key)
            if isinstance(refusal, Homeless):
                self._applier.retire(key)
            raise
        parent = resource.parent
        # Of one without our label the mirror does not know.
        deployment = self._mirror.deployment(parent.namespace, parent.child)
        if (seen := self._enroll(resource, deployment)) is None:
            return None
        if deployment is not None:
            claim(deployment, parent)
        redis_url = self._access.url(resource, is_new=deployment is None)
        desired = children(resource, self._settings, redis_url)
        known = runner_pods.as_of(self._mirror.pods(key), now)
        pods = self._downloads.with_progress(key, known)
        evicted = runner_pods.recent(self._mirror.evicted(key), now)
        look = _Look(resource, desired, deployment, pods, evicted, seen, before)
        trouble = self._trouble(look, desired.hash)
        course, manifest = self._course(look, trouble)
        version = rollout.running(course, desired.hash)
        if trouble and trouble.reason is Reason.CREATE_CONTAINER_CONFIG_ERROR:
            self._applier.forget(key)  # What is missing may be of ours.
        self._applier.support(resource, desired, is_new=deployment is None)
        self._access.open(resource, redis_url)
        if change := self._applier.deploy(resource, deployment, manifest, seen.decision):
            self._emit(key, parent.uid, change)
        if version != desired.hash:
            trouble = self._trouble(look, version)
        view = pod_conditions.PodView(
            generation=resource.model.metadata.generation,
            decision=seen.decision,
            selector=",".join(f"{label}={value}" for label, value in parent.selector.items()),
            pods=pods,
            hash=version,
            version=resource.model.spec.version,
            rollout=course,
            trouble=trouble,
            load=seen.load,
            deployment=parent.child,
            no_pods=_condition_message(deployment, "ReplicaFailure", "True"),
            repo=hub.repo if (hub := resource.model.spec.source.hub) else "",
        )
        return pod_conditions.status(view, before, now)

    def _enroll(self, resource: Resource, deployment: Manifest | None) -> Seen | None:
        """What was read of its load."""
        at_birth = resource.model.spec.min_replicas
        replicas = deployment["spec"].get("replicas", 1) if deployment else at_birth
        self._fleet.enroll(resource.key, Enrolled(resource.model, replicas))
        return self._fleet.seen(resource.key)

    def _trouble(self, look: _Look, hash: str) -> Trouble | None:
        pods = [pod for pod in (*look.pods, *look.evicted) if pod.hash == hash]
        trouble = troubles.worst(pods)
        return self._logs.explain(look.resource.key, trouble) if trouble else None

    def _course(self, look: _Look, trouble: Trouble | None) -> tuple[RolloutStatus, Manifest]:
        """Which version runs, and the Deployment of it."""
        desired = look.desired
        overdue = _condition_message(look.deployment, "Progressing", "False")
        course = rollout.judge(
            look.before.rollout,
            desired.hash,
            look.resource.model.spec.version,
            look.pods,
            trouble,
            overdue=overdue,
            own=look.resource.parent.child,
        )
        version = rollout.running(course, desired.hash)
        if version == desired.hash or look.deployment is None:
            return course, desired.deployment
        template = self._versions.template(look.resource, look.deployment, version)
        if template is None:  # The history no longer has it: there is no way back.
            return RolloutStatus(), desired.deployment
        return course, desired.with_template(template)

    def _report(
        self,
        key: Key,
        uid: str,
        previous: InferenceModelStatus | None,
        status: InferenceModelStatus | None,
    ) -> None:
        """Writes nothing if there is no news."""
        if status is None or status == previous:
            return
        if self._applier.write_status(key, uid, status):
            for event in events.transitions(previous, status):
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


def _condition_message(deployment: Manifest | None, type: str, status: str) -> str:
    """Of a Deployment's condition, if it has that status; else empty."""
    for condition in (deployment or {}).get("status", {}).get("conditions", ()):
        if condition["type"] == type and condition["status"] == status:
            return str(condition.get("message", ""))
    return ""
