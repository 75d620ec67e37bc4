"""A look at a model of which something is refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stub_api import StubApi

from inference_operator.cluster import tenancy
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.reconciler import Reconciler
from inference_operator.cluster.redis_access import RedisAccess
from inference_operator.cluster.resource import Refusal
from inference_operator.cluster.scaling_loop import ScalingLoop
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.redis.connection import RedisConnection
from inference_operator.redis.users import RedisUsers
from inference_operator.scaling.load import Loads
from inference_operator.scaling.scaler import Scaler

KEY = ("team-a", "m")
PATH = Kind.MODEL.path(*KEY)
QUOTA = "exceeded quota: q, requested: persistentvolumeclaims=1"
MODEL = {
    "apiVersion": "inference-server.dev/v1alpha1",
    "kind": "InferenceModel",
    "metadata": {"name": "m", "namespace": "team-a", "uid": "uid-1", "generation": 1},
    "spec": {"type": "text-generation", "source": {"path": "/m"}, "cache": {"size": "1Gi"}},
}
NAMESPACE = {"metadata": {"name": "team-a", "labels": {"inference-server.dev/owner": "alice"}}}


class Looks:
    """A model that is known, with a load that Redis does not say."""

    def __init__(self, api: StubApi, cluster: Cluster, **given: Any) -> None:
        url = "redis://127.0.0.1:1"
        settings = ClusterSettings(
            runner_image="runner:1", redis_url=url, runner_redis_url=url, **given
        )
        self.mirror = Mirror()
        self.mirror.put(Kind.NAMESPACE, api.put("/api/v1/namespaces/team-a", NAMESPACE))
        self.mirror.put(Kind.MODEL, api.put(PATH, MODEL))
        link = RedisConnection(url)
        self.scaling = scaling = ScalingLoop(Scaler(Loads(link)), lambda _: None, 1)
        access = RedisAccess(cluster, self.mirror, RedisUsers(link), settings)
        self.look = Reconciler(cluster, self.mirror, scaling, access, settings, ClusterMetrics())
        self.look(KEY)
        scaling.tick(0)


@pytest.fixture
def looks(api: StubApi, cluster: Cluster) -> Looks:
    return Looks(api, cluster)


def _ready(api: StubApi) -> dict[str, Any]:
    conditions = api.objects[PATH]["status"]["conditions"]
    found: dict[str, Any] = next(c for c in conditions if c["type"] == "Ready")
    return found


def test_a_quota_is_told_and_tried_again(api: StubApi, looks: Looks) -> None:
    api.refusals["PATCH", "persistentvolumeclaims"] = (403, QUOTA)
    with pytest.raises(Refusal):
        looks.look(KEY)
    ready = _ready(api)
    assert (ready["status"], ready["reason"]) == ("False", "NoCapacity")
    assert ready["message"] == f"the cluster refuses the PersistentVolumeClaim: {QUOTA}"
    assert any(request.endswith("/events") for request in api.requests)
    api.refusals.clear()
    looks.look(KEY)
    assert _ready(api)["reason"] == "ScaledToZero"


def test_a_status_that_is_not_written_makes_no_event(api: StubApi, looks: Looks) -> None:
    api.refusals["PATCH", "persistentvolumeclaims"] = (403, QUOTA)
    api.put(PATH, MODEL)
    with pytest.raises(Refusal):
        looks.look(KEY)
    assert "status" not in api.objects[PATH]
    assert not any(request.endswith("/events") for request in api.requests)


def test_a_namespace_that_ends_is_not_told(api: StubApi, looks: Looks) -> None:
    said = "unable to create new content in namespace team-a because it is being terminated"
    api.refusals["PATCH", "persistentvolumeclaims"] = (403, said)
    with pytest.raises(Exception, match="being terminated"):
        looks.look(KEY)
    assert "status" not in api.objects[PATH]


def _replicas(api: StubApi) -> int:
    found = api.objects[f"/apis/apps/v1/namespaces/{KEY[0]}/deployments/m-runner"]
    return int(found["spec"]["replicas"])


@pytest.mark.parametrize("labels", [{}, {"inference-server.dev/owner": "Not A Name"}])
def test_a_model_that_is_nobodys_any_more_serves_nobody(
    api: StubApi, looks: Looks, labels: dict[str, str]
) -> None:
    minimum = {**MODEL, "spec": {**MODEL["spec"], "minReplicas": 1}}  # type: ignore[dict-item]
    looks.mirror.put(Kind.MODEL, api.put(PATH, minimum))
    looks.scaling.forget(KEY)
    looks.look(KEY)
    looks.scaling.tick(1)
    looks.look(KEY)
    assert _replicas(api) == 1
    moved = {"metadata": {"name": "team-a", "labels": labels}}
    looks.mirror.put(Kind.NAMESPACE, api.put("/api/v1/namespaces/team-a", moved))
    looks.look(KEY)
    assert _replicas(api) == 0
    assert "its runners end their work and stop" in _ready(api)["message"]


HERE = "/apis/coordination.k8s.io/v1/namespaces/team-a/leases/inference-server"


def _lease(holder: str, renewed: datetime) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 900}
    renew = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"metadata": {"name": "inference-server"}, "spec": {**spec, "renewTime": renew}}


def test_of_two_releases_the_second_keeps_its_hands_off(api: StubApi, cluster: Cluster) -> None:
    api.put(HERE, _lease("prod/operator", datetime.now(UTC)))
    looks = Looks(api, cluster, leader_namespace="try", leader_deployment="operator")
    api.requests.clear()
    looks.look(KEY)
    looks.look(KEY)
    assert api.writes() == []
    assert looks.look.foreign == {"team-a": "prod/operator"}
    told = [o for path, o in api.objects.items() if "/events/" in path]
    assert [event["reason"] for event in told] == ["OtherRelease"]
    assert "kubectl delete lease inference-server -n team-a" in told[0]["message"]


@pytest.mark.parametrize("there", ["none", "ours", "old"])
def test_a_namespace_that_no_other_release_works_on(
    api: StubApi, cluster: Cluster, there: str
) -> None:
    if there != "none":
        holder = "try/operator" if there == "ours" else "prod/operator"
        api.put(HERE, _lease(holder, datetime.now(UTC) - timedelta(hours=1)))
    looks = Looks(api, cluster, leader_namespace="try", leader_deployment="operator")
    looks.look(KEY)
    assert api.objects[HERE]["spec"]["holderIdentity"] == "try/operator"
    assert _ready(api)["reason"] == "ScaledToZero"
    assert looks.look.foreign == {}


def test_whoever_lost_the_lease_stops_soon(
    api: StubApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deleted, by mistake, and another release was the first to see it."""
    looks = Looks(api, cluster, leader_namespace="try", leader_deployment="operator")
    looks.look(KEY)
    renewed = api.objects[HERE]["spec"]["renewTime"]
    now = time.monotonic() + tenancy.LOOK_AGAIN
    monkeypatch.setattr(time, "monotonic", lambda: now)
    looks.look(KEY)
    assert api.objects[HERE]["spec"]["renewTime"] == renewed  # not written again so soon
    api.put(HERE, _lease("prod/operator", datetime.now(UTC)))
    now += tenancy.LOOK_AGAIN
    api.requests.clear()
    looks.look(KEY)
    assert api.writes() == ["POST /api/v1/namespaces/team-a/events"]
    assert looks.look.foreign == {"team-a": "prod/operator"}


def test_every_runner_is_closed_before_it_comes(api: StubApi, looks: Looks) -> None:
    looks.look(KEY)
    path = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies/inference-runners"
    assert api.objects[path]["spec"] == {
        "podSelector": {
            "matchExpressions": [{"key": "inference-server.dev/model", "operator": "Exists"}]
        },
        "policyTypes": ["Ingress", "Egress"],
    }
    writes = api.writes()
    deployments = "PATCH /apis/apps/v1/namespaces/team-a/deployments/m-runner"
    assert writes.index(f"PATCH {path}") < writes.index(deployments)


def test_a_child_that_somebody_deleted_comes_back(api: StubApi, looks: Looks) -> None:
    looks.look(KEY)
    path = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies/m-runner"
    gone = api.objects.pop(path)
    looks.look(KEY)
    assert path not in api.objects  # Nobody has told it.
    assert looks.mirror.served_by(gone) == [KEY]
    looks.look.child_changed(KEY)
    looks.look(KEY)
    assert path in api.objects
