"""The pods of a model, written out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runner_manifests import (
    HTTP,
    METADATA,
    children_for,
    env_for,
    plain,
    pod_for,
)

from inference_contract.inferencemodel import Pod, Reason
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.manifests.cache_claim import may_grow
from inference_operator.cluster.manifests.pod import merge
from inference_operator.cluster.resource import Refusal


def test_the_pod() -> None:
    pod = pod_for(timeouts={"loadSeconds": 100, "predictSeconds": 10})
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
            "failureThreshold": 6,
        },
    }


def test_the_environment() -> None:
    secret = {"secretKeyRef": {"name": "hub", "key": "token"}}
    env = env_for(
        {"lease_seconds": 12},
        env=[
            {"name": "A", "value": "1"},
            {"name": "HF_TOKEN", "valueFrom": secret},
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
        "RUNNER_REPLACES_ITSELF": "true",
        "POD_NAME": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        "RUNNER_NAME": "alice_m_$(POD_NAME)",
        "RUNNER_LEASE_SECONDS": "12",
    }


def test_kubernetes_changes_no_value_on_its_way() -> None:
    """It makes `$` of `$$`, and expands `$(NAME)` with what stands in front."""
    text = "$$5 $(HOME) $HOME $"
    env = env_for(env=[{"name": "A", "value": text}], engine={"parameters": {"price": text}})
    expanded = {"A": env["A"], "SPEC": env["INFERENCE_MODEL_SPEC"]}
    for name, value in expanded.items():
        assert "$" not in value.replace("$$", ""), name
    assert env["A"].replace("$$", "$") == text
    spec = json.loads(env["INFERENCE_MODEL_SPEC"].replace("$$", "$"))
    assert spec["engine"]["parameters"] == {"price": text}


def test_a_hub_model_is_downloaded_first() -> None:
    gpu = {
        "requests": {"cpu": "2"},
        "limits": {"memory": "8Gi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"},
    }
    secret = {"secretKeyRef": {"name": "hub", "key": "token"}}
    hub = {"source": {"hub": {"repo": "a/b", "revision": "v1"}}}
    pod = pod_for(
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
    assert env_for(**hub)["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("source", [{"path": "/m"}, {"wheel": {"package": "p"}}], ids=str)
def test_other_models_are_not(source: dict[str, Any]) -> None:
    assert "initContainers" not in pod_for(source=source)
    assert "HF_HUB_OFFLINE" not in env_for(source=source)


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
    pod = pod_for({"hf_endpoint": "http://mirror:8080"}, source={"hub": {"repo": "a/b"}}, env=env)
    found = {entry["name"]: entry.get("value") for entry in pod["initContainers"][0]["env"]}
    assert (found["HF_ENDPOINT"], found.get("HF_HUB_OFFLINE")) == expected


def test_a_volume_is_the_source() -> None:
    source = {"pvc": {"claimName": "weights", "path": "llama/8b"}}
    pod = pod_for(source=source)
    claim = {"claimName": "weights", "readOnly": True}
    assert pod["volumes"][-1] == {"name": "source", "persistentVolumeClaim": claim}
    mount = {"name": "source", "mountPath": "/source", "readOnly": True}
    assert pod["containers"][0]["volumeMounts"][-1] == mount
    spec = env_for(source=source)["INFERENCE_MODEL_SPEC"]
    assert '"source":{"path":"/source/llama/8b"}' in spec


@pytest.mark.parametrize(("path", "folder"), [("", "/source"), ("X", "/source/X")])
def test_a_source_is_a_volume_or_a_folder_of_it(path: str, folder: str) -> None:
    env = env_for(source={"pvc": {"claimName": "weights", "path": path}})
    assert json.loads(env["INFERENCE_MODEL_SPEC"])["source"] == {"path": folder}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "classification"),
        ("version", "2"),
        ("source", {"path": "/other"}),
        ("engine", {"dtype": "float16"}),
        ("hardware", "h100"),
        ("batching", {"maxBatchSize": 2}),
        ("timeouts", {"predictSeconds": 7}),
    ],
)
def test_a_runner_is_told_what_it_reads(field: str, value: Any) -> None:
    env = env_for({"hardware_profiles": {"h100": {}}}, **{field: value})
    told = json.loads(env["INFERENCE_MODEL_SPEC"])[field]
    assert told == value if isinstance(value, str) else value.items() <= told.items()


def test_a_cache_on_the_node() -> None:
    volume = pod_for({"model_cache_node_path": "/var/weights"})["volumes"][1]
    path = {"path": "/var/weights", "type": "DirectoryOrCreate"}
    assert volume == {"name": "cache", "hostPath": path}


def test_a_cache_of_its_own() -> None:
    made = children_for(cache={"size": "20Gi", "storageClassName": "fast"})
    assert plain(made.supporting[Kind.CLAIM]) == {
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


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ({}, "ReadWriteOnce"),
        ({"maxReplicas": 2}, "ReadWriteMany"),
        ({"rollout": {"maxSurge": 1}}, "ReadWriteMany"),
    ],
)
def test_a_cache_that_two_nodes_may_need(pods: dict[str, Any], expected: str) -> None:
    claim = children_for(cache={"size": "1Gi"}, **pods).supporting[Kind.CLAIM]
    assert claim["spec"]["accessModes"] == [expected]


def test_a_cache_may_grow_and_nothing_else() -> None:
    before = children_for(cache={"size": "20Gi"}).supporting[Kind.CLAIM]
    before["spec"]["storageClassName"] = "default"
    wanted = children_for(cache={"size": "30Gi", "storageClassName": "fast"}, maxReplicas=2)
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
    pod = pod_for(settings, hardware="h100", pod=wishes)
    assert pod["nodeSelector"] == {"gpu": "h100", "zone": "a"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
    ]
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("nvidia", "high")
    [container] = pod["containers"]
    assert container["image"] == "mine:2"
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}}
    assert env_for(settings, hardware="h100")["ENABLE_GPU"] == "true"


def test_without_gpus_hardware_is_cpu() -> None:
    wishes = {"resources": {"limits": {"memory": "64Gi"}}, "nodeSelector": {"zone": "a"}}
    pod = pod_for(NO_GPU, hardware="h100", pod=wishes)
    assert pod["nodeSelector"] == {"zone": "a"}
    assert {"tolerations", "runtimeClassName"}.isdisjoint(pod)
    [container] = pod["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"memory": "64Gi"},
    }
    assert env_for(NO_GPU, hardware="h100")["ENABLE_GPU"] == "false"


@pytest.mark.parametrize("part", ["requests", "limits"])
def test_a_device_that_nobody_gets(part: str) -> None:
    wishes = {"resources": {part: {"nvidia.com/gpu": "1", "memory": "1Gi"}}}
    with pytest.raises(Refusal, match=r"asks for nvidia.com/gpu, but with ENABLE_GPU=false") as no:
        children_for(NO_GPU, hardware="h100", pod=wishes)
    assert no.value.reason is Reason.NO_CAPACITY
    assert str(no.value).endswith(
        " no model gets a device: remove it, or have the administrator enable GPUs"
    )


@pytest.mark.parametrize(
    ("hardware", "limits", "expected"),
    [
        ("cpu", {}, "false"),
        ("cpu-large", {"memory": "64Gi"}, "false"),
        ("cpu", {"nvidia.com/gpu": "1"}, "true"),
        ("h100", {}, "true"),
        ("h100", {"nvidia.com/gpu": "0"}, "false"),
    ],
)
def test_who_has_a_device_uses_it(hardware: str, limits: dict[str, str], expected: str) -> None:
    large = {"resources": {"requests": {"cpu": "16"}}, "nodeSelector": {"size": "large"}}
    settings = {"hardware_profiles": {"h100": H100, "cpu-large": large}}
    env = env_for(settings, hardware=hardware, pod={"resources": {"limits": limits}})
    assert env["ENABLE_GPU"] == expected


def test_nothing_merged_is_nothing() -> None:
    assert merge(Pod(), Pod()) == Pod()


def test_unknown_hardware_is_refused() -> None:
    with pytest.raises(Refusal, match=r"none of this server's: cpu, h100; set spec\.hardware"):
        children_for({"hardware_profiles": {"h100": {}}}, hardware="a100")


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (
            {"limits": {"memory": "256Mi"}},
            {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
        ),
        (
            {"limits": {"memory": "2Gi"}},
            {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        ),
        ({"requests": {"cpu": 0.5}}, {"requests": {"cpu": "0.5", "memory": "512Mi"}}),
    ],
)
def test_a_limit_alone_is_no_contradiction(wishes: dict[str, Any], expected: Any) -> None:
    """The profile asks for 512Mi."""
    [container] = pod_for(pod={"resources": wishes})["containers"]
    assert container["resources"] == expected


@pytest.mark.parametrize(
    ("memory", "limit"), [("512Mi", "1Gi"), ("1Gi", "1Gi"), ("2Gi", "2Gi")], ids=str
)
def test_a_request_alone_raises_the_limit_of_the_profile(memory: str, limit: str) -> None:
    small = {"resources": {"limits": {"memory": "1Gi"}}}
    wishes = {"resources": {"requests": {"memory": memory}}}
    [container] = pod_for({"hardware_profiles": {"s": small}}, hardware="s", pod=wishes)[
        "containers"
    ]
    assert container["resources"] == {"requests": {"memory": memory}, "limits": {"memory": limit}}


def test_a_device_is_asked_for_as_it_is_limited() -> None:
    gpu = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    settings = {"hardware_profiles": {"h100": {"resources": gpu}}}
    for part in ("requests", "limits"):
        [container] = pod_for(
            settings, hardware="h100", pod={"resources": {part: {"nvidia.com/gpu": 2}}}
        )["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert container["resources"]["requests"]["nvidia.com/gpu"] == "2"
