"""The operator as a process, on a real API server with its scheduler, controllers and kubelet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import redis
from cluster_operator import CHILD, MODEL, NO_IMAGE, OWNER, PAUSE, ClusterOperator
from kubernetes.client import (
    V1Container,
    V1Deployment,
    V1DeploymentSpec,
    V1LabelSelector,
    V1LimitRange,
    V1LimitRangeItem,
    V1LimitRangeSpec,
    V1ObjectMeta,
    V1PodSpec,
    V1PodTemplateSpec,
)
from narrow import there

from inference_contract import queues
from inference_contract.pods import LABEL_HASH, LABEL_MODEL, LABEL_OWNER


def _looks(operator: ClusterOperator) -> float:
    return operator.metric("inference_operator_reconciles_total")


def _is_quiet(operator: ClusterOperator) -> Callable[[], bool]:
    """Whether a few looks in a row wrote nothing."""
    before = (-1.0, 0.0)

    def is_quiet() -> bool:
        nonlocal before
        looks, writes = _looks(operator), operator.metric("inference_operator_writes_total")
        if writes != before[0]:
            before = writes, looks
        return looks >= before[1] + 3

    return is_quiet


def _versions(operator: ClusterOperator) -> dict[str, str]:
    core, network = operator.core, operator.network
    found = {
        "model": operator.model()["metadata"]["resourceVersion"],
        "deployment": (operator.deployment() or {})["metadata"]["resourceVersion"],
    }
    for read in (
        core.read_namespaced_secret,
        core.read_namespaced_service_account,
        network.read_namespaced_network_policy,
    ):
        found[read.__name__] = there(read(CHILD, operator.namespace).metadata).resource_version
    return found


def test_a_model_becomes_a_deployment_that_sleeps(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(pod={"nodeSelector": {"disk": "fast"}})
    assert (
        operator.until_reason("ScaledToZero")
        == "starts with the first prediction, which shows whether it loads"
    )
    deployment = operator.deployment()
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 0
    assert deployment["spec"]["selector"] == {"matchLabels": {LABEL_MODEL: MODEL}}
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"][LABEL_OWNER] == OWNER
    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert pod["spec"]["containers"][0]["image"] == NO_IMAGE
    [owner] = deployment["metadata"]["ownerReferences"]
    assert owner["uid"] == operator.model()["metadata"]["uid"]
    secret = operator.core.read_namespaced_secret(CHILD, operator.namespace)
    assert secret.data == {"REDIS_URL": "cmVkaXM6Ly9yZWRpcy50ZXN0OjYzNzk="}
    assert operator.core.read_namespaced_service_account(CHILD, operator.namespace)
    assert operator.network.read_namespaced_network_policy(CHILD, operator.namespace)
    assert operator.condition("ScalingActive")["status"] == "True"
    assert operator.status()["selector"] == f"{LABEL_MODEL}={MODEL}"
    history = operator.apps.list_namespaced_replica_set(operator.namespace).items
    assert [rs.spec.replicas for rs in history] == [0]  # No pod was made for a moment.


def test_restricted_pod_security_admits_the_runner(operator: ClusterOperator) -> None:
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    operator.core.patch_namespace(operator.namespace, {"metadata": {"labels": enforce}})
    operator.start()
    operator.make(minReplicas=1)
    operator.until(operator.pods, 30)


def test_work_in_redis_scales_and_its_end_scales_down(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    operator.start()
    operator.make(maxReplicas=3)
    operator.until_reason("ScaledToZero")
    queue = queues.queue_key(queues.model_key(f"{OWNER}/{MODEL}"))
    redis_client.rpush(queue, *range(11))
    operator.until(lambda: operator.replicas() == 2, 10)
    operator.until(lambda: operator.status()["queued"] == 11, 20)
    redis_client.delete(queue)
    operator.until(lambda: operator.replicas() == 0, 10)
    expected = {
        ("ScaledDown", "from 2 to 0 replicas: ScaleDown"),
        ("ScaledUp", "from 0 to 2 replicas: ScaleUp"),
    }
    # And that the image is missing, if there was time to look for it.
    operator.until(lambda: expected <= set(operator.events()))


def _says_of_scaling(operator: ClusterOperator, message: str) -> bool:
    return bool(operator.condition("ScalingActive")["message"] == message)


def _has_looked(operator: ClusterOperator, times: float) -> bool:
    return _looks(operator) >= times


def test_somebody_else_scales(operator: ClusterOperator, redis_client: redis.Redis) -> None:
    operator.start()
    operator.make(minReplicas=2, maxReplicas=3, autoscaling={"mode": "None"})
    operator.until(lambda: operator.replicas() == 2)
    queue = queues.queue_key(queues.model_key(f"{OWNER}/{MODEL}"))
    redis_client.rpush(queue, *range(100))
    operator.until(lambda: operator.status().get("queued") == 100)
    for replicas in (4, 0):
        scale = {"spec": {"replicas": replicas}}
        operator.apps.patch_namespaced_deployment_scale(CHILD, operator.namespace, scale)
        left = (
            f"left at {replicas} replicas: spec.autoscaling.mode is None; scale the Deployment "
            f"{CHILD}, not the model"
        )
        operator.until(partial(_says_of_scaling, operator, left))
        operator.until(partial(_has_looked, operator, _looks(operator) + 3))
        assert operator.replicas() == replicas
    scaling = operator.condition("ScalingActive")
    assert (scaling["status"], scaling["reason"]) == ("False", "External")
    assert operator.until_reason("ScaledToZero").startswith(
        "predictions wait until somebody scales"
    )
    scaled = [note for reason, note in operator.events() if reason.startswith("Scaled")]
    assert scaled == []  # It was born with two.


def test_drift_is_repaired(operator: ClusterOperator) -> None:
    operator.start()
    operator.make()
    operator.until_reason("ScaledToZero")
    drift = {"spec": {"replicas": 2, "progressDeadlineSeconds": 7}}
    operator.apps.patch_namespaced_deployment(CHILD, operator.namespace, drift)
    operator.core.delete_namespaced_secret(CHILD, operator.namespace)

    def is_repaired() -> bool:
        spec = (operator.deployment() or {})["spec"]
        return bool(spec["replicas"] == 0 and spec["progressDeadlineSeconds"] == 1530)

    operator.until(is_repaired)
    secrets = operator.core.list_namespaced_secret

    def is_alone() -> bool:
        found = secrets(operator.namespace).items
        return [there(secret.metadata).name for secret in found] == [CHILD]

    operator.until(is_alone)


@pytest.mark.parametrize("url", ["", "redis://redis.test:6379"], ids=["a user", "one URL for all"])
def test_at_rest_nothing_is_written(operator: ClusterOperator, url: str) -> None:
    operator.start(RESYNC_SECONDS="0.2", RUNNER_REDIS_URL=url)
    operator.make(
        minReplicas=1,
        pod={"resources": {"requests": {"memory": "1024Ti", "cpu": "0.1"}}},
    )
    operator.until_reason("Unschedulable")
    operator.until(lambda: operator.condition("ScalingActive").get("reason") == "Steady")
    operator.until(_is_quiet(operator))
    looks, writes = _looks(operator), operator.metric("inference_operator_writes_total")
    versions = _versions(operator)
    operator.until(lambda: _looks(operator) >= looks + 10, 30)
    assert operator.metric("inference_operator_writes_total") == writes
    assert _versions(operator) == versions


def test_a_restart_changes_nothing(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(minReplicas=1)
    operator.until_reason("ImagePullBackOff")
    operator.until(_is_quiet(operator))
    assert operator.stop() == 0
    generation = (operator.deployment() or {})["metadata"]["generation"]
    operator.start()
    operator.until(lambda: _looks(operator) >= 3, 30)
    assert (operator.deployment() or {})["metadata"]["generation"] == generation
    assert operator.metric('inference_operator_writes_total{what="Deployment"') == 0
    assert operator.condition()["reason"] == "ImagePullBackOff"


def test_a_change_that_runners_do_not_see_leaves_them_alone(operator: ClusterOperator) -> None:
    operator.start()
    operator.make()
    operator.until_reason("ScaledToZero")
    template = (operator.deployment() or {})["spec"]["template"]
    operator.change(displayName="Other", maxReplicas=5)
    operator.until(lambda: operator.status()["observedGeneration"] == 2)
    assert (operator.deployment() or {})["spec"]["template"] == template
    operator.change(version="2")
    hash_of = template["metadata"]["labels"][LABEL_HASH]

    def has_other_hash() -> bool:
        labels = (operator.deployment() or {})["spec"]["template"]["metadata"]["labels"]
        return bool(labels[LABEL_HASH] != hash_of)

    operator.until(has_other_hash)


def test_a_foreign_deployment_is_refused(operator: ClusterOperator) -> None:
    labels = {"app": "other"}
    pod = V1PodTemplateSpec(
        metadata=V1ObjectMeta(labels=labels),
        spec=V1PodSpec(containers=[V1Container(name="c", image=NO_IMAGE)]),
    )
    spec = V1DeploymentSpec(replicas=0, selector=V1LabelSelector(match_labels=labels), template=pod)
    body = V1Deployment(metadata=V1ObjectMeta(name=CHILD), spec=spec)
    operator.apps.create_namespaced_deployment(operator.namespace, body)
    operator.start()
    operator.make()
    message = operator.until_reason("NameTaken")
    assert message.startswith(f"Deployment {CHILD} exists and is not of this InferenceModel:")
    deployment = operator.deployment()
    assert deployment is not None
    assert deployment["spec"]["selector"] == {"matchLabels": labels}
    assert "ownerReferences" not in deployment["metadata"]
    operator.until(lambda: [reason for reason, _ in operator.events()] == ["NameTaken"])
    operator.apps.delete_namespaced_deployment(CHILD, operator.namespace)
    operator.until_reason("ScaledToZero")


def test_a_namespace_needs_an_owner(
    operator: ClusterOperator, make_namespace: Callable[..., str]
) -> None:
    nobodys = make_namespace()
    operator.start(WATCH_NAMESPACES=nobodys, RESYNC_SECONDS="3600")
    operator.make(namespace=nobodys)
    message = operator.until_reason("InvalidModel", namespace=nobodys)
    assert message == (
        f"namespace {nobodys} has no owner: kubectl label namespace {nobodys} {LABEL_OWNER}=OWNER"
        "; its runners end their work and stop"
    )
    operator.core.patch_namespace(nobodys, {"metadata": {"labels": {LABEL_OWNER: "bob"}}})
    operator.until_reason("ScaledToZero", namespace=nobodys)


def test_the_older_of_two_namespaces_has_the_owners_models(
    operator: ClusterOperator, make_namespace: Callable[..., str]
) -> None:
    other = make_namespace(OWNER)
    old, young = sorted((operator.namespace, other), key=operator.age)
    for namespace in (old, young):
        operator.make(namespace=namespace)
    operator.start(WATCH_NAMESPACES=f"{old},{young}")
    operator.until_reason("ScaledToZero", namespace=old)
    assert f"so is {old}, which is older" in operator.until_reason("InvalidModel", namespace=young)
    operator.core.patch_namespace(old, {"metadata": {"labels": {LABEL_OWNER: None}}})
    operator.until_reason("ScaledToZero", namespace=young)
    assert "has no owner" in operator.until_reason("InvalidModel", namespace=old)


def test_unknown_hardware(operator: ClusterOperator) -> None:
    operator.start(HARDWARE_PROFILES='{"h100": {}}')
    operator.make(hardware="a100")
    message = operator.until_reason("InvalidModel")
    assert message == "hardware 'a100' is none of this server's: cpu, h100; set spec.hardware"
    assert operator.deployment() is None


def test_a_manifest_that_the_api_server_refuses(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(pod={"resources": {"requests": {"no prefix": "1"}}})
    message = operator.until_reason("InvalidModel")
    assert message.startswith("the cluster refuses the Deployment: ")


def test_an_impossible_request_is_unschedulable(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(minReplicas=1, pod={"resources": {"requests": {"memory": "1024Ti"}}})
    message = operator.until_reason("Unschedulable")
    assert "Insufficient memory" in message


def test_a_missing_image(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(minReplicas=1)
    message = operator.until_reason("ImagePullBackOff", 60)
    assert message.startswith("the image cannot be pulled: ")
    assert "no-such-image" in message


def test_a_secret_that_is_not_there(operator: ClusterOperator) -> None:
    operator.start(RUNNER_IMAGE=PAUSE)
    secret = {"secretKeyRef": {"name": "no-such-secret", "key": "token"}}
    operator.make(minReplicas=1, env=[{"name": "TOKEN", "valueFrom": secret}])
    operator.until_reason("CreateContainerConfigError")
    operator.until(lambda: 'secret "no-such-secret" not found' in operator.condition()["message"])
    assert operator.condition("Progressing")["status"] == "False"
    operator.until(
        lambda: "CreateContainerConfigError" in [reason for reason, _ in operator.events()]
    )


def test_a_namespace_that_takes_no_such_pod(operator: ClusterOperator) -> None:
    item = V1LimitRangeItem(type="Container", min={"memory": "1Ti"})
    body = V1LimitRange(metadata=V1ObjectMeta(name="large"), spec=V1LimitRangeSpec(limits=[item]))
    operator.core.create_namespaced_limit_range(operator.namespace, body)
    operator.start()
    operator.make(minReplicas=1)
    assert "minimum memory usage per Container is 1Ti" in operator.until_reason("PodsRefused")
    assert operator.condition("Progressing")["status"] == "False"
    operator.until(lambda: "PodsRefused" in [reason for reason, _ in operator.events()])


def test_a_redis_that_is_away_holds_the_replicas(operator: ClusterOperator) -> None:
    operator.start(REDIS_URL="redis://127.0.0.1:1")
    operator.make(minReplicas=1, pod={"resources": {"requests": {"memory": "1024Ti"}}})
    operator.until_reason("Unschedulable")
    scaling = operator.condition("ScalingActive")
    assert (scaling["status"], scaling["reason"]) == ("Unknown", "LoadUnknown")
    assert operator.replicas() == 1


def test_a_cache_of_its_own(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(minReplicas=1, cache={"size": "1024Mi"})
    assert "PersistentVolumeClaim" in operator.until_reason("Unschedulable")
    claim = operator.core.read_namespaced_persistent_volume_claim(CHILD, operator.namespace)
    assert there(claim.spec).access_modes == ["ReadWriteOnce"]
    operator.until(_is_quiet(operator))


def test_a_model_that_does_not_load(operator: ClusterOperator, runner_image: str) -> None:
    operator.start(RUNNER_IMAGE=runner_image)
    operator.make(minReplicas=1, source={"path": "/no/such/model"})
    message = operator.until_reason("LoadFailed", 90)
    assert "/no/such/model" in message
    assert any("/no/such/model" in line for line in operator.status()["logTail"])
    operator.until(lambda: "LoadFailed" in [reason for reason, _ in operator.events()])


def test_a_model_that_needs_more_memory(operator: ClusterOperator, runner_image: str) -> None:
    operator.start(RUNNER_IMAGE=runner_image)
    memory = {"requests": {"memory": "12Mi"}, "limits": {"memory": "12Mi"}}
    operator.make(minReplicas=1, pod={"resources": memory})
    assert "its limit of 12Mi" in operator.until_reason("OOMKilled", 90)


def test_a_model_becomes_ready_and_drains(
    operator: ClusterOperator, runner_image: str, echo_volume: str
) -> None:
    operator.start(RUNNER_IMAGE=runner_image)
    operator.make(
        type="custom",
        source={"pvc": {"claimName": echo_volume}},
        engine={"className": "echo:Echo"},
        minReplicas=1,
    )
    assert operator.until_reason("Ready", 90) == "1 of 1 replicas ready"
    assert operator.status()["readyReplicas"] == 1
    assert operator.condition("Progressing")["reason"] == "Stable"
    operator.change(minReplicas=0)
    assert operator.until_reason("ScaledToZero", 30)
    operator.until(lambda: operator.condition("Progressing")["reason"] == "Stable", 60)
    assert operator.status()["replicas"] == 0


def test_a_changed_source_changes_the_policy_both_ways(operator: ClusterOperator) -> None:
    operator.start(RESYNC_SECONDS="3600")
    operator.make(source={"hub": {"repo": "a/b"}})
    operator.until_reason("ScaledToZero")

    def reaches_the_hub() -> bool:
        policy = operator.network.read_namespaced_network_policy(CHILD, operator.namespace)
        egress = there(there(policy.spec).egress)
        return any(port.port == 443 for rule in egress for port in rule.ports or [])

    assert reaches_the_hub()
    operator.change(source={"hub": None, "path": "/m"})
    operator.until(lambda: not reaches_the_hub())
    operator.change(source={"hub": {"repo": "a/b"}, "path": None})
    operator.until(reaches_the_hub)


def test_children_go_with_the_model(operator: ClusterOperator) -> None:
    operator.start()
    operator.make()
    operator.until_reason("ScaledToZero")
    operator.delete()
    operator.until(lambda: operator.deployment() is None, 30)
    operator.until(
        lambda: not operator.network.list_namespaced_network_policy(operator.namespace).items
    )
    assert not [line for line in operator.logs() if line["level"] == "error"]
