"""One operator acts at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import kubernetes.client
import pytest
from cluster_operator import ClusterOperator
from kubernetes.client import (
    V1Container,
    V1Deployment,
    V1DeploymentSpec,
    V1LabelSelector,
    V1ObjectMeta,
    V1PodSpec,
    V1PodTemplateSpec,
)
from proxy import Proxy

from inference_operator.cluster import leader, tenancy
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.leader import DURATION, NAME, Leader


@pytest.fixture
def cluster(api: kubernetes.client.ApiClient) -> Cluster:
    return Cluster(api)


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    return make_namespace()


def _acquire(contender: Leader) -> threading.Thread:
    thread = threading.Thread(target=contender.acquire, daemon=True)
    thread.start()
    return thread


def _spec(cluster: Cluster, namespace: str) -> dict[str, Any]:
    lease = cluster.get(Kind.LEASE, namespace, NAME)
    assert lease is not None
    spec: dict[str, Any] = lease["spec"]
    return spec


def test_a_lease_given_back_is_taken_at_once(cluster: Cluster, namespace: str) -> None:
    first, second = Leader(cluster, namespace, "first"), Leader(cluster, namespace, "second")
    first.acquire()
    before = _spec(cluster, namespace)
    assert (before["holderIdentity"], before["leaseTransitions"]) == ("first", 0)
    waiting = _acquire(second)
    first.release()
    waiting.join(3 * leader.RETRY)
    assert not waiting.is_alive()
    after = _spec(cluster, namespace)
    assert (after["holderIdentity"], after["leaseTransitions"]) == ("second", 1)
    second.release()


def test_a_lease_goes_with_the_deployment_of_its_holders(
    api: kubernetes.client.ApiClient,
    cluster: Cluster,
    namespace: str,
    wait_until: Callable[..., Any],
) -> None:
    """So that nothing is left when they are uninstalled."""
    apps, labels = kubernetes.client.AppsV1Api(api), {"app": "operator"}
    pod = V1PodTemplateSpec(
        metadata=V1ObjectMeta(labels=labels),
        spec=V1PodSpec(containers=[V1Container(name="c", image="none")]),
    )
    spec = V1DeploymentSpec(replicas=0, selector=V1LabelSelector(match_labels=labels), template=pod)
    body = V1Deployment(metadata=V1ObjectMeta(name="operator"), spec=spec)
    apps.create_namespaced_deployment(namespace, body)
    for name in ("first", "second"):
        contender = Leader(cluster, namespace, name, deployment="operator")
        contender.acquire()
        contender.release()
    apps.delete_namespaced_deployment("operator", namespace)
    wait_until(lambda: cluster.get(Kind.LEASE, namespace, NAME) is None, 30)


def test_a_deleted_lease_is_made_anew(
    cluster: Cluster, namespace: str, wait_until: Callable[..., Any]
) -> None:
    lost = threading.Event()
    holder = Leader(cluster, namespace, "holder", lost.set)
    holder.acquire()
    cluster.delete(Kind.LEASE, namespace, NAME)
    wait_until(lambda: cluster.get(Kind.LEASE, namespace, NAME) is not None, 3 * leader.RETRY)
    assert _spec(cluster, namespace)["holderIdentity"] == "holder"
    assert not lost.is_set()
    holder.release()


def test_of_many_one_has_it(cluster: Cluster, namespace: str) -> None:
    contenders = [Leader(cluster, namespace, f"c{n}") for n in range(4)]
    threads = [_acquire(contender) for contender in contenders]
    alive = threads
    for left in reversed(range(4)):
        while len(alive) > left:
            alive = [thread for thread in threads if thread.is_alive()]
        holder = _spec(cluster, namespace)["holderIdentity"]
        assert len(alive) == left
        contenders[int(holder[1:])].release()


def test_who_cannot_renew_stops_before_another_begins(
    api: kubernetes.client.ApiClient, cluster: Cluster, namespace: str, proxy: Proxy
) -> None:
    cut_off = kubernetes.client.Configuration()
    cut_off.__dict__.update(api.configuration.__dict__)
    cut_off.host = f"https://127.0.0.1:{proxy.port}"
    lost = threading.Event()
    with kubernetes.client.ApiClient(cut_off) as client:
        first = Leader(Cluster(client), namespace, "first", lost.set)
        first.acquire()
        waiting = _acquire(second := Leader(cluster, namespace, "second"))
        proxy.is_up = False
        proxy.cut()
        assert lost.wait(DURATION)
        assert waiting.is_alive()  # What the first still had under way ends before this.
    waiting.join(2 * DURATION)
    assert not waiting.is_alive()
    second.release()


def test_two_operators(operator: ClusterOperator, namespace: str, tmp_path: Any) -> None:
    """The second does nothing until the first is killed, and then goes on with its work."""
    other = operator.beside(tmp_path / "other")
    operator.start(LEADER_NAMESPACE=namespace)
    operator.make()
    operator.until_reason("ScaledToZero")
    other.start(LEADER_NAMESPACE=namespace)
    operator.change(minReplicas=1, pod={"resources": {"requests": {"memory": "1024Ti"}}})
    operator.until_reason("Unschedulable")
    assert other.metric("inference_operator_reconciles_total") == 0
    killed = time.monotonic()
    operator.kill()
    other.change(minReplicas=0)
    other.until_reason("ScaledToZero", 3 * DURATION)
    assert time.monotonic() - killed > DURATION - leader.RENEW_WITHIN
    assert other.stop() == 0


def test_of_two_releases_on_one_namespace_the_second_leaves_it_alone(
    operator: ClusterOperator,
    cluster: Cluster,
    make_namespace: Callable[..., str],
    tmp_path: Any,
) -> None:
    """Each is the leader of its own; it begins once the first has gone with its Lease."""
    other = operator.beside(tmp_path / "other")
    homes = make_namespace(), make_namespace()
    mine, theirs = ({"LEADER_NAMESPACE": home, "LEADER_DEPLOYMENT": "operator"} for home in homes)
    operator.start(**mine)
    operator.make()
    operator.until_reason("ScaledToZero")
    before = operator.deployment()
    image = "localhost:5000/of-the-other:1"
    other.start(**theirs, RUNNER_IMAGE=image)
    told = f"the release of operator {homes[0]}/operator works on namespace {operator.namespace}"
    other.until(lambda: told in other.health())
    other.until(lambda: "OtherRelease" in dict(other.events()))
    operator.change(displayName="changed")
    operator.until(lambda: operator.status()["observedGeneration"] == 2)
    looks = other.metric("inference_operator_reconciles_total")
    other.until(lambda: other.metric("inference_operator_reconciles_total") >= looks + 3)
    assert other.metric("inference_operator_writes_total") == 1  # the Event
    after = operator.deployment()
    assert before
    assert after
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]
    assert "works on namespace" not in operator.health()
    assert operator.stop() == 0
    cluster.delete(Kind.LEASE, operator.namespace, tenancy.NAME)

    def is_taken() -> bool:
        pod = (other.deployment() or {})["spec"]["template"]["spec"]
        return bool(pod["containers"][0]["image"] == image)

    other.until(is_taken, 2 * tenancy.LOOK_AGAIN)
    assert "works on namespace" not in other.health()
