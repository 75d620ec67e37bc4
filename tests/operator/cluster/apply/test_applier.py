"""What becomes of a model whose children the API server does not take."""

from __future__ import annotations

import re
from typing import Any

import pytest
from runner_manifests import children_for
from stub_api import StubApi

from inference_contract.inferencemodel import InferenceModelStatus, Reason
from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.apply.applier import Applier
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.resource import Refusal, Resource, parse
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.scaling.decide import Decision, Why

KEY = ("team-a", "m")
CACHE = {"size": "20Gi"}
DECISION = Decision(1, Why.SCALE_UP)
QUOTA = 'persistentvolumeclaims "m-runner" is forbidden: exceeded quota: q, used: 5, limited: 5'
TOO_LARGE = 'persistentvolumeclaims "m-runner" is forbidden: maximum storage usage is 5Gi'
NO_RIGHT = 'User "operator" cannot patch resource "deployments" in API group "apps"'
ENDING = "unable to create new content in namespace team-a because it is being terminated"


def _found(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m", "namespace": "team-a", "uid": "uid-1"},
        "spec": {"type": "text-generation", "source": {"path": "/models/m"}, **spec},
    }


def _resource(**spec: Any) -> Resource:
    return parse(_found(**spec), owner="alice", home="team-a")


def _path(kind: Kind) -> str:
    return kind.path("team-a", "m-runner")


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
def applier(cluster: Cluster, mirror: Mirror) -> Applier:
    settings = ClusterSettings(runner_image="runner:1", redis_url="redis://127.0.0.1:1")
    return Applier(cluster, mirror, ClusterMetrics(), settings)


@pytest.mark.parametrize(
    ("status", "said", "reason", "message", "may_pass"),
    [
        (403, QUOTA, Reason.NO_CAPACITY, f"the cluster refuses the Deployment: {QUOTA}", True),
        (403, TOO_LARGE, Reason.INVALID_MODEL, "the cluster refuses the Deployment: ", True),
        (403, NO_RIGHT, Reason.OPERATOR_LACKS_RIGHT, "the operator lacks the right", True),
        (400, "denied by a policy", Reason.INVALID_MODEL, "denied by a policy", True),
        (413, "limit is 3145728", Reason.INVALID_MODEL, "limit is 3145728", True),
        (422, "must be a number", Reason.INVALID_MODEL, "must be a number", False),
    ],
)
def test_what_is_refused_is_for_the_status(
    api: StubApi,
    applier: Applier,
    status: int,
    said: str,
    reason: Reason,
    message: str,
    may_pass: bool,
) -> None:
    api.refusals["PATCH", "deployments"] = (status, said)
    with pytest.raises(Refusal, match=re.escape(message)) as refusal:
        applier.deploy(_resource(), None, children_for().deployment, DECISION)
    assert (refusal.value.reason, refusal.value.may_pass) == (reason, may_pass)


@pytest.mark.parametrize(("status", "said"), [(403, ENDING), (500, "etcd"), (429, "too many")])
def test_what_is_no_fault_of_the_model_is_not(
    api: StubApi, applier: Applier, status: int, said: str
) -> None:
    api.refusals["PATCH", "deployments"] = (status, said)
    with pytest.raises(ClusterError, match=said):
        applier.deploy(_resource(), None, children_for().deployment, DECISION)


def test_replicas_that_are_refused_are_for_the_status(api: StubApi, applier: Applier) -> None:
    manifest = children_for().deployment
    there = api.put(_path(Kind.DEPLOYMENT), manifest)
    api.refusals["PATCH", "scale"] = (403, "denied by a policy")
    with pytest.raises(Refusal, match="the cluster refuses the Deployment: denied by a policy"):
        applier.deploy(_resource(), there, manifest, Decision(3, Why.SCALE_UP))


def test_a_new_claim_that_is_refused_is_for_the_status(api: StubApi, applier: Applier) -> None:
    api.refusals["PATCH", "persistentvolumeclaims"] = (403, QUOTA)
    with pytest.raises(Refusal, match="PersistentVolumeClaim") as refusal:
        applier.support(_resource(cache=CACHE), children_for(cache=CACHE), is_new=True)
    assert refusal.value.reason is Reason.NO_CAPACITY


@pytest.mark.parametrize("answer", [(403, TOO_LARGE), (422, "spec is immutable")])
def test_a_claim_that_cannot_grow_serves_as_it_is(
    api: StubApi, applier: Applier, caplog: pytest.LogCaptureFixture, answer: tuple[int, str]
) -> None:
    made = children_for(cache={"size": "1Gi"})
    there = api.put(_path(Kind.CLAIM), dict(made.supporting[Kind.CLAIM]))
    deployment = api.put(_path(Kind.DEPLOYMENT), {**made.deployment, "spec": {"replicas": 0}})
    api.refusals["PATCH", "persistentvolumeclaims"] = answer
    resource, desired = _resource(cache=CACHE), children_for(cache=CACHE)
    applier.support(resource, desired, is_new=False)
    applier.deploy(resource, deployment, desired.deployment, DECISION)
    assert api.objects[_path(Kind.CLAIM)] == there
    assert api.objects[_path(Kind.DEPLOYMENT)]["spec"]["replicas"] == 1
    assert "claim team-a/m-runner stays as it is: the cluster refuses the P" in caplog.text
    assert answer[1] in caplog.text


def test_a_claim_that_can_grow_does(api: StubApi, applier: Applier) -> None:
    made = children_for(cache={"size": "1Gi"})
    api.put(_path(Kind.CLAIM), dict(made.supporting[Kind.CLAIM]))
    applier.support(_resource(cache=CACHE), children_for(cache=CACHE), is_new=False)
    size = {"requests": {"storage": "20Gi"}}
    assert api.objects[_path(Kind.CLAIM)]["spec"]["resources"] == size


def test_a_status_is_written_once(api: StubApi, applier: Applier, mirror: Mirror) -> None:
    model = api.put(Kind.MODEL.path(*KEY), _found())
    mirror.put(Kind.MODEL, model)
    assert applier.write_status(KEY, "uid-1", InferenceModelStatus(queued=3))
    assert api.objects[Kind.MODEL.path(*KEY)]["status"]["queued"] == 3
    known = mirror.model(KEY)
    assert known == api.objects[Kind.MODEL.path(*KEY)]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_model_does_not_get_the_status_of_an_earlier_one_of_its_name(
    api: StubApi, applier: Applier, mirror: Mirror, is_known: bool
) -> None:
    model = api.put(Kind.MODEL.path(*KEY), _found())
    mirror.put(Kind.MODEL, model)
    del api.objects[Kind.MODEL.path(*KEY)]
    successor = {**_found(), "metadata": {**_found()["metadata"], "uid": "uid-2"}}
    there = api.put(Kind.MODEL.path(*KEY), successor)
    if is_known:
        mirror.put(Kind.MODEL, there)
    assert not applier.write_status(KEY, "uid-1", InferenceModelStatus(queued=3))
    assert api.objects[Kind.MODEL.path(*KEY)] == there
