"""The operator as a process, on a real API server with its scheduler, controllers and kubelet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from house import CHILD, MODEL, NO_IMAGE, OWNER, PAUSE, House

from inference_contract import queues
from inference_contract.pods import LABEL_HASH, LABEL_MODEL, LABEL_OWNER


def _looks(house: House) -> float:
    return house.metric("inference_operator_reconciles_total")


def _is_quiet(house: House) -> Callable[[], bool]:
    """Whether a few looks in a row wrote nothing."""
    before = (-1.0, 0.0)

    def is_quiet() -> bool:
        nonlocal before
        looks, writes = _looks(house), house.metric("inference_operator_writes_total")
        if writes != before[0]:
            before = writes, looks
        return looks >= before[1] + 3

    return is_quiet


def _versions(house: House) -> dict[str, str]:
    core, network = house.core, house.network
    found = {
        "model": house.model()["metadata"]["resourceVersion"],
        "deployment": (house.deployment() or {})["metadata"]["resourceVersion"],
    }
    for read in (
        core.read_namespaced_secret,
        core.read_namespaced_service_account,
        network.read_namespaced_network_policy,
    ):
        found[read.__name__] = read(CHILD, house.namespace).metadata.resource_version
    return found


def test_a_model_becomes_a_deployment_that_sleeps(house: House) -> None:
    house.start()
    house.make(pod={"nodeSelector": {"disk": "fast"}})
    assert (
        house.until_reason("ScaledToZero")
        == "starts with the first prediction, which shows whether it loads"
    )
    deployment = house.deployment()
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 0
    assert deployment["spec"]["selector"] == {"matchLabels": {LABEL_MODEL: MODEL}}
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"][LABEL_OWNER] == OWNER
    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert pod["spec"]["containers"][0]["image"] == NO_IMAGE
    [owner] = deployment["metadata"]["ownerReferences"]
    assert owner["uid"] == house.model()["metadata"]["uid"]
    secret = house.core.read_namespaced_secret(CHILD, house.namespace)
    assert secret.data == {"REDIS_URL": "cmVkaXM6Ly9yZWRpcy50ZXN0OjYzNzk="}
    assert house.core.read_namespaced_service_account(CHILD, house.namespace)
    assert house.network.read_namespaced_network_policy(CHILD, house.namespace)
    assert house.condition("ScalingActive")["status"] == "True"
    assert house.status()["selector"] == f"{LABEL_MODEL}={MODEL}"
    history = house.apps.list_namespaced_replica_set(house.namespace).items
    assert [rs.spec.replicas for rs in history] == [0]  # No pod was made for a moment.


def test_restricted_pod_security_admits_the_runner(house: House) -> None:
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    house.core.patch_namespace(house.namespace, {"metadata": {"labels": enforce}})
    house.start()
    house.make(minReplicas=1)
    house.until(house.pods, 30)


def test_work_in_redis_scales_and_its_end_scales_down(
    house: House, redis_client: redis.Redis
) -> None:
    house.start()
    house.make(maxReplicas=3)
    house.until_reason("ScaledToZero")
    queue = queues.queue_key(queues.model_key(f"{OWNER}/{MODEL}"))
    redis_client.rpush(queue, *range(11))
    house.until(lambda: house.replicas() == 2, 10)
    house.until(lambda: house.status()["queued"] == 11, 20)
    redis_client.delete(queue)
    house.until(lambda: house.replicas() == 0, 10)
    expected = {
        ("ScaledDown", "from 2 to 0 replicas: ScaleDown"),
        ("ScaledUp", "from 0 to 2 replicas: ScaleUp"),
    }
    # And that the image is missing, if there was time to look for it.
    house.until(lambda: expected <= set(house.events()))


def test_somebody_else_scales(house: House, redis_client: redis.Redis) -> None:
    house.start()
    house.make(minReplicas=2, maxReplicas=3, autoscaling={"mode": "None"})
    house.until(lambda: house.replicas() == 2)
    queue = queues.queue_key(queues.model_key(f"{OWNER}/{MODEL}"))
    redis_client.rpush(queue, *range(100))
    house.until(lambda: house.status().get("queued") == 100)
    for replicas in (4, 0):
        scale = {"spec": {"replicas": replicas}}
        house.apps.patch_namespaced_deployment_scale(CHILD, house.namespace, scale)
        left = (
            f"left at {replicas} replicas: spec.autoscaling.mode is None; scale the Deployment "
            f"{CHILD}, not the model"
        )
        house.until(lambda left=left: house.condition("ScalingActive")["message"] == left)
        looks = _looks(house)
        house.until(lambda looks=looks: _looks(house) >= looks + 3)
        assert house.replicas() == replicas
    scaling = house.condition("ScalingActive")
    assert (scaling["status"], scaling["reason"]) == ("False", "External")
    assert house.until_reason("ScaledToZero").startswith("predictions wait until somebody scales")
    scaled = [note for reason, note in house.events() if reason.startswith("Scaled")]
    assert scaled == []  # It was born with two.


def test_drift_is_repaired(house: House) -> None:
    house.start()
    house.make()
    house.until_reason("ScaledToZero")
    drift = {"spec": {"replicas": 2, "progressDeadlineSeconds": 7}}
    house.apps.patch_namespaced_deployment(CHILD, house.namespace, drift)
    house.core.delete_namespaced_secret(CHILD, house.namespace)

    def is_repaired() -> bool:
        spec = (house.deployment() or {})["spec"]
        return bool(spec["replicas"] == 0 and spec["progressDeadlineSeconds"] == 1530)

    house.until(is_repaired)
    secrets = house.core.list_namespaced_secret
    house.until(lambda: [s.metadata.name for s in secrets(house.namespace).items] == [CHILD])


@pytest.mark.parametrize("url", ["", "redis://redis.test:6379"], ids=["a user", "one URL for all"])
def test_at_rest_nothing_is_written(house: House, url: str) -> None:
    house.start(RESYNC_SECONDS="0.2", RUNNER_REDIS_URL=url)
    house.make(
        minReplicas=1,
        pod={"resources": {"requests": {"memory": "1024Ti", "cpu": "0.1"}}},
    )
    house.until_reason("Unschedulable")
    house.until(lambda: house.condition("ScalingActive").get("reason") == "Steady")
    house.until(_is_quiet(house))
    looks, writes = _looks(house), house.metric("inference_operator_writes_total")
    versions = _versions(house)
    house.until(lambda: _looks(house) >= looks + 10, 30)
    assert house.metric("inference_operator_writes_total") == writes
    assert _versions(house) == versions


def test_a_restart_changes_nothing(house: House) -> None:
    house.start()
    house.make(minReplicas=1)
    house.until_reason("ImagePullBackOff")
    house.until(_is_quiet(house))
    assert house.stop() == 0
    generation = (house.deployment() or {})["metadata"]["generation"]
    house.start()
    house.until(lambda: _looks(house) >= 3, 30)
    assert (house.deployment() or {})["metadata"]["generation"] == generation
    assert house.metric('inference_operator_writes_total{what="Deployment"') == 0
    assert house.condition()["reason"] == "ImagePullBackOff"


def test_a_change_that_runners_do_not_see_leaves_them_alone(house: House) -> None:
    house.start()
    house.make()
    house.until_reason("ScaledToZero")
    template = (house.deployment() or {})["spec"]["template"]
    house.change(displayName="Other", maxReplicas=5)
    house.until(lambda: house.status()["observedGeneration"] == 2)
    assert (house.deployment() or {})["spec"]["template"] == template
    house.change(version="2")
    hash_of = template["metadata"]["labels"][LABEL_HASH]

    def has_other_hash() -> bool:
        labels = (house.deployment() or {})["spec"]["template"]["metadata"]["labels"]
        return bool(labels[LABEL_HASH] != hash_of)

    house.until(has_other_hash)


def test_a_foreign_deployment_is_refused(house: House) -> None:
    labels = {"app": "other"}
    container = {"name": "c", "image": NO_IMAGE}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    body = {"metadata": {"name": CHILD}, "spec": spec}
    house.apps.create_namespaced_deployment(house.namespace, body)
    house.start()
    house.make()
    message = house.until_reason("NameTaken")
    assert message.startswith(f"Deployment {CHILD} exists and is not of this InferenceModel:")
    deployment = house.deployment()
    assert deployment is not None
    assert deployment["spec"]["selector"] == {"matchLabels": labels}
    assert "ownerReferences" not in deployment["metadata"]
    house.until(lambda: [reason for reason, _ in house.events()] == ["NameTaken"])
    house.apps.delete_namespaced_deployment(CHILD, house.namespace)
    house.until_reason("ScaledToZero")


def test_a_namespace_needs_an_owner(house: House, make_namespace: Callable[..., str]) -> None:
    nobodys = make_namespace()
    house.start(WATCH_NAMESPACES=nobodys, RESYNC_SECONDS="3600")
    house.make(namespace=nobodys)
    message = house.until_reason("InvalidModel", namespace=nobodys)
    assert message == (
        f"namespace {nobodys} has no owner: kubectl label namespace {nobodys} {LABEL_OWNER}=OWNER"
        "; its runners end their work and stop"
    )
    house.core.patch_namespace(nobodys, {"metadata": {"labels": {LABEL_OWNER: "bob"}}})
    house.until_reason("ScaledToZero", namespace=nobodys)


def test_the_older_of_two_namespaces_has_the_owners_models(
    house: House, make_namespace: Callable[..., str]
) -> None:
    other = make_namespace(OWNER)
    old, young = sorted((house.namespace, other), key=house.age)
    for namespace in (old, young):
        house.make(namespace=namespace)
    house.start(WATCH_NAMESPACES=f"{old},{young}")
    house.until_reason("ScaledToZero", namespace=old)
    assert f"so is {old}, which is older" in house.until_reason("InvalidModel", namespace=young)
    house.core.patch_namespace(old, {"metadata": {"labels": {LABEL_OWNER: None}}})
    house.until_reason("ScaledToZero", namespace=young)
    assert "has no owner" in house.until_reason("InvalidModel", namespace=old)


def test_unknown_hardware(house: House) -> None:
    house.start(HARDWARE_PROFILES='{"h100": {}}')
    house.make(hardware="a100")
    message = house.until_reason("InvalidModel")
    assert message == "hardware 'a100' is none of this server's: cpu, h100; set spec.hardware"
    assert house.deployment() is None


def test_a_manifest_that_the_api_server_refuses(house: House) -> None:
    house.start()
    house.make(pod={"resources": {"requests": {"no prefix": "1"}}})
    message = house.until_reason("InvalidModel")
    assert message.startswith("the cluster refuses the Deployment: ")


def test_an_impossible_request_is_unschedulable(house: House) -> None:
    house.start()
    house.make(minReplicas=1, pod={"resources": {"requests": {"memory": "1024Ti"}}})
    message = house.until_reason("Unschedulable")
    assert "Insufficient memory" in message


def test_a_missing_image(house: House) -> None:
    house.start()
    house.make(minReplicas=1)
    message = house.until_reason("ImagePullBackOff", 60)
    assert message.startswith("the image cannot be pulled: ")
    assert "no-such-image" in message


def test_a_secret_that_is_not_there(house: House) -> None:
    house.start(RUNNER_IMAGE=PAUSE)
    secret = {"secretKeyRef": {"name": "no-such-secret", "key": "token"}}
    house.make(minReplicas=1, env=[{"name": "TOKEN", "valueFrom": secret}])
    house.until_reason("CreateContainerConfigError")
    house.until(lambda: 'secret "no-such-secret" not found' in house.condition()["message"])
    assert house.condition("Progressing")["status"] == "False"
    house.until(lambda: "CreateContainerConfigError" in [reason for reason, _ in house.events()])


def test_a_namespace_that_takes_no_such_pod(house: House) -> None:
    limits = {"limits": [{"type": "Container", "min": {"memory": "1Ti"}}]}
    body = {"metadata": {"name": "large"}, "spec": limits}
    house.core.create_namespaced_limit_range(house.namespace, body)
    house.start()
    house.make(minReplicas=1)
    assert "minimum memory usage per Container is 1Ti" in house.until_reason("PodsRefused")
    assert house.condition("Progressing")["status"] == "False"
    house.until(lambda: "PodsRefused" in [reason for reason, _ in house.events()])


def test_a_redis_that_is_away_holds_the_replicas(house: House) -> None:
    house.start(REDIS_URL="redis://127.0.0.1:1")
    house.make(minReplicas=1, pod={"resources": {"requests": {"memory": "1024Ti"}}})
    house.until_reason("Unschedulable")
    scaling = house.condition("ScalingActive")
    assert (scaling["status"], scaling["reason"]) == ("Unknown", "LoadUnknown")
    assert house.replicas() == 1


def test_a_cache_of_its_own(house: House) -> None:
    house.start()
    house.make(minReplicas=1, cache={"size": "1024Mi"})
    assert "PersistentVolumeClaim" in house.until_reason("Unschedulable")
    claim = house.core.read_namespaced_persistent_volume_claim(CHILD, house.namespace)
    assert claim.spec.access_modes == ["ReadWriteOnce"]
    house.until(_is_quiet(house))


def test_a_model_that_does_not_load(house: House, runner_image: str) -> None:
    house.start(RUNNER_IMAGE=runner_image)
    house.make(minReplicas=1, source={"path": "/no/such/model"})
    message = house.until_reason("LoadFailed", 90)
    assert "/no/such/model" in message
    assert any("/no/such/model" in line for line in house.status()["logTail"])
    house.until(lambda: "LoadFailed" in [reason for reason, _ in house.events()])


def test_a_model_that_needs_more_memory(house: House, runner_image: str) -> None:
    house.start(RUNNER_IMAGE=runner_image)
    memory = {"requests": {"memory": "12Mi"}, "limits": {"memory": "12Mi"}}
    house.make(minReplicas=1, pod={"resources": memory})
    assert "its limit of 12Mi" in house.until_reason("OOMKilled", 90)


def test_a_model_becomes_ready_and_drains(
    house: House, runner_image: str, echo_volume: str
) -> None:
    house.start(RUNNER_IMAGE=runner_image)
    house.make(
        type="custom",
        source={"pvc": {"claimName": echo_volume}},
        engine={"className": "echo:Echo"},
        minReplicas=1,
    )
    assert house.until_reason("Ready", 90) == "1 of 1 replicas ready"
    assert house.status()["readyReplicas"] == 1
    assert house.condition("Progressing")["reason"] == "Stable"
    house.change(minReplicas=0)
    assert house.until_reason("ScaledToZero", 30)
    house.until(lambda: house.condition("Progressing")["reason"] == "Stable", 60)
    assert house.status()["replicas"] == 0


def test_a_changed_source_changes_the_policy_both_ways(house: House) -> None:
    house.start(RESYNC_SECONDS="3600")
    house.make(source={"hub": {"repo": "a/b"}})
    house.until_reason("ScaledToZero")

    def reaches_the_hub() -> bool:
        policy = house.network.read_namespaced_network_policy(CHILD, house.namespace)
        return any(port.port == 443 for rule in policy.spec.egress for port in rule.ports or [])

    assert reaches_the_hub()
    house.change(source={"hub": None, "path": "/m"})
    house.until(lambda: not reaches_the_hub())
    house.change(source={"hub": {"repo": "a/b"}, "path": None})
    house.until(reaches_the_hub)


def test_children_go_with_the_model(house: House) -> None:
    house.start()
    house.make()
    house.until_reason("ScaledToZero")
    house.delete()
    house.until(lambda: house.deployment() is None, 30)
    house.until(lambda: not house.network.list_namespaced_network_policy(house.namespace).items)
    assert not [line for line in house.logs() if line["level"] == "error"]
