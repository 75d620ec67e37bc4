"""A look at a model of which something is refused."""

from __future__ import annotations

from typing import Any

import pytest
from stub_api import StubApi

from inference_operator.cluster import Cluster
from inference_operator.fleet import Fleet
from inference_operator.kinds import Kind
from inference_operator.kube_metrics import KubeMetrics
from inference_operator.kube_settings import KubeSettings
from inference_operator.loads import Loads
from inference_operator.mirror import Mirror
from inference_operator.reconcile import Reconciler
from inference_operator.redis_link import RedisLink
from inference_operator.redis_users import RedisUsers
from inference_operator.resources import Refusal
from inference_operator.runner_access import RunnerAccess
from inference_operator.scaler import Scaler

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

    def __init__(self, api: StubApi, cluster: Cluster) -> None:
        url = "redis://127.0.0.1:1"
        settings = KubeSettings(runner_image="runner:1", redis_url=url, runner_redis_url=url)
        self.mirror = Mirror()
        self.mirror.put(Kind.NAMESPACE, api.put("/api/v1/namespaces/team-a", NAMESPACE))
        self.mirror.put(Kind.MODEL, api.put(PATH, MODEL))
        link = RedisLink(url)
        fleet = Fleet(Scaler(Loads(link)), lambda _: None, 1)
        access = RunnerAccess(cluster, self.mirror, RedisUsers(link), settings)
        self.look = Reconciler(cluster, self.mirror, fleet, access, settings, KubeMetrics())
        self.look(KEY)
        fleet.tick(0)


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
