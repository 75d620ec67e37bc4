"""What is applied for a model, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from inference_contract.inferencemodel import Pod, Reason
from inference_contract.pods import LABEL_HASH
from inference_operator.children import Children, children
from inference_operator.kinds import Kind
from inference_operator.kube_settings import KubeSettings
from inference_operator.manifests.cache_claim import may_grow
from inference_operator.manifests.child import ANNOTATION_APPLIED, Manifest
from inference_operator.manifests.deployment import with_replicas
from inference_operator.manifests.pod import merge
from inference_operator.resources import Refusal, parse

LABELS = {
    "app.kubernetes.io/name": "inference-runner",
    "app.kubernetes.io/managed-by": "inference",
    "inference-server.dev/owner": "alice",
    "inference-server.dev/model": "m",
}
OWNERS = [
    {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "name": "m",
        "uid": "uid-1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
]
HTTP = {"port": 8001, "scheme": "HTTP"}


def _children(settings: dict[str, Any] | None = None, **spec: Any) -> Children:
    found = {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m", "namespace": "team-a", "uid": "uid-1"},
        "spec": {"type": "text-generation", "source": {"path": "/models/m"}, **spec},
    }
    resource = parse(found, {"inference-server.dev/owner": "alice"})
    values = {"runner_image": "runner:1", "redis_url": "redis://redis:6380/1"}
    given = KubeSettings(**{**values, **(settings or {})})
    return children(resource, given, given.redis_url)


def _pod(settings: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    pod: Manifest = _children(settings, **spec).deployment["spec"]["template"]["spec"]
    return pod


def _container(settings: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    container: Manifest = _pod(settings, **spec)["containers"][0]
    return container


def _env(settings: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    entries = _container(settings, **spec)["env"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def _plain(manifest: Manifest) -> Manifest:
    """Without the fingerprint, whose value is nobody's business."""
    metadata = dict(manifest["metadata"])
    assert list(metadata.pop("annotations")) == [ANNOTATION_APPLIED]
    return {**manifest, "metadata": metadata}


METADATA = {
    "name": "m-runner",
    "namespace": "team-a",
    "labels": LABELS,
    "ownerReferences": OWNERS,
}


def test_the_deployment() -> None:
    made = _children(timeouts={"loadSeconds": 100})
    deployment = _plain(made.deployment)
    template = deployment["spec"].pop("template")
    assert deployment == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": METADATA,
        "spec": {
            "selector": {"matchLabels": {"inference-server.dev/model": "m"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "progressDeadlineSeconds": 700,
            "revisionHistoryLimit": 2,
        },
    }
    assert template["metadata"]["labels"] == {**LABELS, LABEL_HASH: made.hash}


def test_the_pod() -> None:
    pod = _pod(timeouts={"loadSeconds": 100, "drainSeconds": 40})
    [container] = pod.pop("containers")
    del container["env"]
    assert pod == {
        "serviceAccountName": "m-runner",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 40,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "cache", "emptyDir": {}}],
    }
    assert container == {
        "name": "runner",
        "image": "runner:1",
        "ports": [{"name": "http", "containerPort": 8001, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "cache", "mountPath": "/cache"},
        ],
        "startupProbe": {
            "httpGet": {"path": "/health/ready", **HTTP},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 130,
        },
        "readinessProbe": {
            "httpGet": {"path": "/health/ready", **HTTP},
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/health/live", **HTTP},
            "periodSeconds": 10,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
    }


def test_the_environment() -> None:
    secret = {"secretKeyRef": {"name": "hub", "key": "token"}}
    env = _env(
        {"lease_seconds": 12},
        env=[
            {"name": "A", "value": "1"},
            {"name": "HF_TOKEN", "valueFrom": secret},
            {"name": "REDIS_URL", "value": "mine"},
            {"name": "RUNNER_NAME", "valueFrom": secret},
            {"name": "POD_NAME", "value": "mine"},
        ],
    )
    assert "/models/m" in env.pop("INFERENCE_MODEL_SPEC")
    assert list(env).index("POD_NAME") < list(env).index("RUNNER_NAME")  # Else it is not expanded.
    assert env == {
        "A": "1",
        "HF_TOKEN": secret,
        "HOME": "/tmp",
        "INFERENCE_MODEL_ID": "alice/m",
        "REDIS_URL": {"secretKeyRef": {"name": "m-runner", "key": "REDIS_URL"}},
        "MODEL_CACHE_DIR": "/cache",
        "ENABLE_GPU": "false",
        "RUNNER_HOST": "0.0.0.0",
        "RUNNER_PORT": "8001",
        "POD_NAME": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        "RUNNER_NAME": "alice_m_$(POD_NAME)",
        "RUNNER_LEASE_SECONDS": "12",
    }


def test_a_hub_model_is_downloaded_first() -> None:
    gpu = {
        "requests": {"cpu": "2"},
        "limits": {"memory": "8Gi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"},
    }
    secret = {"secretKeyRef": {"name": "hub", "key": "token"}}
    hub = {"source": {"hub": {"repo": "a/b", "revision": "v1"}}}
    pod = _pod(
        **hub,
        env=[{"name": "HF_TOKEN", "valueFrom": secret}],
        pod={"image": "mine:2", "resources": gpu},
    )
    [init], [runner] = pod["initContainers"], pod["containers"]
    env = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in init.pop("env")}
    assert init == {
        "name": "fetch",
        "image": "mine:2",
        "command": ["python", "-P", "-m", "inference_runner.fetch"],
        "resources": {
            "requests": {"cpu": "2", "memory": "512Mi"},
            "limits": {"memory": "8Gi", "ephemeral-storage": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "cache", "mountPath": "/cache"},
        ],
    }
    assert '"hub":{"repo":"a/b","revision":"v1"}' in env["INFERENCE_MODEL_SPEC"]
    assert (env["HF_TOKEN"], env["MODEL_CACHE_DIR"], env["HOME"]) == (secret, "/cache", "/tmp")
    assert not {"REDIS_URL", "HF_ENDPOINT", "HF_HUB_OFFLINE"} & set(env)
    assert runner["name"] == "runner"
    assert runner["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert _env(**hub)["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("source", [{"path": "/m"}, {"wheel": {"package": "p"}}], ids=str)
def test_other_models_are_not(source: dict[str, Any]) -> None:
    assert "initContainers" not in _pod(source=source)
    assert "HF_HUB_OFFLINE" not in _env(source=source)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ([], ("http://mirror:8080", None)),
        ([{"name": "HF_ENDPOINT", "value": "https://own"}], ("https://own", None)),
        ([{"name": "HF_HUB_OFFLINE", "value": "0"}], ("http://mirror:8080", "0")),
    ],
)
def test_where_a_hub_model_comes_from(
    env: list[dict[str, str]], expected: tuple[str | None, str | None]
) -> None:
    pod = _pod({"hf_endpoint": "http://mirror:8080"}, source={"hub": {"repo": "a/b"}}, env=env)
    found = {entry["name"]: entry.get("value") for entry in pod["initContainers"][0]["env"]}
    assert (found["HF_ENDPOINT"], found.get("HF_HUB_OFFLINE")) == expected


def test_a_volume_is_the_source() -> None:
    source = {"pvc": {"claimName": "weights", "path": "llama/8b"}}
    pod = _pod(source=source)
    claim = {"claimName": "weights", "readOnly": True}
    assert pod["volumes"][-1] == {"name": "source", "persistentVolumeClaim": claim}
    mount = {"name": "source", "mountPath": "/source", "readOnly": True}
    assert pod["containers"][0]["volumeMounts"][-1] == mount
    spec = _env(source=source)["INFERENCE_MODEL_SPEC"]
    assert '"source":{"path":"/source/llama/8b"}' in spec


def test_a_cache_on_the_node() -> None:
    volume = _pod({"model_cache_node_path": "/var/weights"})["volumes"][1]
    path = {"path": "/var/weights", "type": "DirectoryOrCreate"}
    assert volume == {"name": "cache", "hostPath": path}


def test_a_cache_of_its_own() -> None:
    made = _children(cache={"size": "20Gi", "storageClassName": "fast"})
    assert _plain(made.supporting[Kind.CLAIM]) == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": METADATA,
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "20Gi"}},
        },
    }
    volume = made.deployment["spec"]["template"]["spec"]["volumes"][1]
    assert volume == {"name": "cache", "persistentVolumeClaim": {"claimName": "m-runner"}}


def test_a_cache_may_grow_and_nothing_else() -> None:
    before = _children(cache={"size": "20Gi"}).supporting[Kind.CLAIM]
    before["spec"]["storageClassName"] = "default"
    wanted = _children(cache={"size": "30Gi", "storageClassName": "fast"}, maxReplicas=2)
    grown = may_grow(wanted.supporting[Kind.CLAIM], before)
    assert grown["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "default",
        "resources": {"requests": {"storage": "30Gi"}},
    }


H100: dict[str, Any] = {
    "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "32Gi"}},
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "runtimeClassName": "nvidia",
}
NO_GPU = {"hardware_profiles": {"h100": H100}, "enable_gpu": False}


def test_hardware_is_what_a_pod_begins_with() -> None:
    wishes = {
        "image": "mine:2",
        "resources": {"limits": {"memory": "64Gi"}},
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "spot", "value": "yes", "effect": "NoSchedule"}],
        "priorityClassName": "high",
    }
    settings = {"hardware_profiles": {"h100": H100}}
    pod = _pod(settings, hardware="h100", pod=wishes)
    assert pod["nodeSelector"] == {"gpu": "h100", "zone": "a"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
    ]
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("nvidia", "high")
    [container] = pod["containers"]
    assert container["image"] == "mine:2"
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}}
    assert _env(settings, hardware="h100")["ENABLE_GPU"] == "true"


def test_without_gpus_hardware_is_cpu() -> None:
    wishes = {"resources": {"limits": {"memory": "64Gi"}}, "nodeSelector": {"zone": "a"}}
    pod = _pod(NO_GPU, hardware="h100", pod=wishes)
    assert pod["nodeSelector"] == {"zone": "a"}
    assert {"tolerations", "runtimeClassName"}.isdisjoint(pod)
    [container] = pod["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"memory": "64Gi"},
    }
    assert _env(NO_GPU, hardware="h100")["ENABLE_GPU"] == "false"


@pytest.mark.parametrize("part", ["requests", "limits"])
def test_a_device_that_nobody_gets(part: str) -> None:
    wishes = {"resources": {part: {"nvidia.com/gpu": "1", "memory": "1Gi"}}}
    with pytest.raises(Refusal, match=r"asks for nvidia.com/gpu, but with ENABLE_GPU=false") as no:
        _children(NO_GPU, hardware="h100", pod=wishes)
    assert no.value.reason is Reason.NO_CAPACITY


def test_nothing_merged_is_nothing() -> None:
    assert merge(Pod(), Pod()) == Pod()


def test_unknown_hardware_is_refused() -> None:
    with pytest.raises(Refusal, match=r"none of this server's: cpu, h100; set spec\.hardware"):
        _children({"hardware_profiles": {"h100": {}}}, hardware="a100")


def test_a_namespace_without_owner_is_refused() -> None:
    found = {"metadata": {"name": "m", "namespace": "team-a", "uid": "u"}}
    with pytest.raises(
        Refusal, match=r"kubectl label namespace team-a inference-server\.dev/owner="
    ):
        parse(found, {})


@pytest.mark.parametrize(
    "change",
    [
        {"displayName": "Other"},
        {"description": "d"},
        {"visibility": "public"},
        {"minReplicas": 1},
        {"maxReplicas": 9},
        {"autoscaling": {"targetPerReplica": 3}},
        {"inputSchema": {"x": {"type": "string"}}},
    ],
    ids=str,
)
def test_what_runners_do_not_read_changes_no_pod(change: dict[str, Any]) -> None:
    assert _children(**change).deployment == _children().deployment


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"source": {"path": "/other"}},
        {"engine": {"dtype": "float16"}},
        {"batching": {"maxBatchSize": 2}},
        {"env": [{"name": "A", "value": "1"}]},
        {"pod": {"image": "other"}},
    ],
    ids=str,
)
def test_what_they_read_does(change: dict[str, Any]) -> None:
    assert _children(**change).deployment != _children().deployment


def test_a_new_redis_makes_new_pods() -> None:
    other = _children({"redis_url": "redis://other:6379"})
    assert other.deployment != _children().deployment
    assert "other" not in str(other.deployment)


def test_the_secret() -> None:
    made = _children({"redis_url": "redis://r"})
    assert _plain(made.supporting[Kind.SECRET]) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": METADATA,
        "type": "Opaque",
        "data": {"REDIS_URL": "cmVkaXM6Ly9y"},
    }


def test_the_service_account() -> None:
    assert _plain(_children().supporting[Kind.SERVICE_ACCOUNT]) == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": METADATA,
        "automountServiceAccountToken": False,
    }


DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
HUB = {"ports": [{"protocol": "TCP", "port": 443}]}


@pytest.mark.parametrize(
    ("redis_url", "source", "egress"),
    [
        (
            "redis://redis:6380/1",
            {"path": "/m"},
            [DNS, {"ports": [{"protocol": "TCP", "port": 6380}]}],
        ),
        (
            "rediss://:pw@10.0.0.7",
            {"hub": {"repo": "a/b"}},
            [
                DNS,
                {
                    "to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}],
                    "ports": [{"protocol": "TCP", "port": 6379}],
                },
                HUB,
            ],
        ),
    ],
)
def test_the_network_policy(redis_url: str, source: dict[str, Any], egress: list[Any]) -> None:
    made = _children({"redis_url": redis_url}, source=source)
    assert _plain(made.supporting[Kind.NETWORK_POLICY]) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {key: value for key, value in METADATA.items() if key != "ownerReferences"},
        "spec": {
            "podSelector": {"matchLabels": {"inference-server.dev/model": "m"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": 8001}]}],
            "egress": egress,
        },
    }


@pytest.mark.parametrize(
    ("hub_url", "rule"),
    [
        ("https://mirror.example.com", HUB),
        ("http://mirror", {"ports": [{"protocol": "TCP", "port": 80}]}),
        (
            "http://10.1.2.3:8080/hub",
            {
                "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}],
                "ports": [{"protocol": "TCP", "port": 8080}],
            },
        ),
    ],
)
def test_the_way_to_a_mirror_is_open_to_those_who_download(
    hub_url: str, rule: dict[str, Any]
) -> None:
    def egress(source: dict[str, Any]) -> list[Any]:
        made = _children({"hf_endpoint": hub_url}, source=source)
        rules: list[Any] = made.supporting[Kind.NETWORK_POLICY]["spec"]["egress"]
        return rules

    assert egress({"hub": {"repo": "a/b"}})[2:] == [HUB, rule]
    assert len(egress({"path": "/m"})) == 2


def test_no_document_opens_a_way() -> None:
    env = [{"name": "HF_ENDPOINT", "value": "http://database:5432"}]
    made = _children(source={"hub": {"repo": "a/b"}}, env=env)
    assert made.supporting[Kind.NETWORK_POLICY]["spec"]["egress"][2:] == [HUB]


def test_replicas_are_said_when_it_is_sent() -> None:
    made = _children().deployment
    assert "replicas" not in made["spec"]
    assert with_replicas(made, 3)["spec"] == {**made["spec"], "replicas": 3}


@pytest.mark.parametrize(("surge", "unavailable"), [(0, 1), (2, 0)])
def test_a_rollout_without_and_with_room_to_spare(surge: int, unavailable: int) -> None:
    made = _children(rollout={"maxSurge": surge})
    assert made.deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({"settings": {"runner_image": "other:1"}}, True),
        ({"version": "2"}, True),
        ({"displayName": "Other"}, False),
        ({"maxReplicas": 9}, False),
        ({"rollout": {"maxSurge": 1}}, False),
    ],
)
def test_what_makes_another_version(changes: dict[str, Any], is_other: bool) -> None:
    settings = changes.pop("settings", {})
    assert (_children(settings, **changes).hash != _children().hash) is is_other
