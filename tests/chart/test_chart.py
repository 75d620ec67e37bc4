"""What the chart makes of its values, switch by switch."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from inference_contract.inferencemodel import GROUP, PLURAL
from inference_gateway.dispatch import metrics
from inference_gateway.models.kubernetes import store
from inference_gateway.settings import GatewaySettings
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.settings import ClusterSettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "inference-server"
NAME = "inf-inference-server"
EXTERNAL = {
    "externalDatabase": {"existingSecret": "db", "key": "url"},
    "externalRedis": {"existingSecret": "redis", "key": "url", "runnerKey": "runner-url"},
    "auth": {"existingSecret": "auth", "key": "signing"},
}
EVERYTHING = {
    "watchNamespaces": ["ada", "bob"],
    "imagePullSecrets": [{"name": "registry"}],
    "config": {"publicUrl": "https://api.example.com"},
    "gateway": {"replicas": 3, "nodeSelector": {"disk": "ssd"}},
    "dispatch": {"replicas": 2, "tolerations": [{"key": "a", "operator": "Exists"}]},
    "runner": {"cacheNodePath": "/var/cache/models", "hubUrl": "http://hub.example.com:8080"},
    "ingress": {"enabled": True, "host": "api.example.com", "tlsSecretName": "tls"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "test": {"model": "ada/echo", "existingSecret": "token"},
}
OURS = ("gateway", "dispatch", "operator")
SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "dispatch": GatewaySettings,
    "operator": ClusterSettings,
}


def secret(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def test_lint_is_strict_and_silent(helm: Callable[..., Any]) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


def test_a_first_try_needs_no_values(render: Callable[..., Any]) -> None:
    made = render()
    assert made.names("Deployment") == [
        f"{NAME}-{part}" for part in ("dispatch", "gateway", "operator")
    ]
    assert made.names("StatefulSet") == [f"{NAME}-postgresql", f"{NAME}-valkey"]
    assert made.names("Service") == [
        f"{NAME}-{part}" for part in ("gateway", "postgresql", "valkey")
    ]
    assert made.names("Job") == [f"{NAME}-migrate-1"]
    assert made.names("CustomResourceDefinition") == [f"{PLURAL}.{GROUP}"]
    absent = ("HorizontalPodAutoscaler", "PodDisruptionBudget", "Ingress", "ServiceMonitor")
    assert [made.names(kind) for kind in absent] == [[], [], [], []]


# (values, kind, the names of that kind)
SWITCHES: list[tuple[dict[str, Any], str, list[str]]] = [
    (EXTERNAL, "StatefulSet", []),
    (EXTERNAL, "Secret", []),
    ({"externalDatabase": {"existingSecret": "db"}}, "StatefulSet", [f"{NAME}-valkey"]),
    ({"externalRedis": {"existingSecret": "r"}}, "StatefulSet", [f"{NAME}-postgresql"]),
    ({"gateway": {"replicas": 2}}, "PodDisruptionBudget", [f"{NAME}-gateway"]),
    ({"dispatch": {"replicas": 2}}, "PodDisruptionBudget", [f"{NAME}-dispatch"]),
    ({"operator": {"replicas": 2}}, "PodDisruptionBudget", [f"{NAME}-operator"]),
    (
        {"gateway": {"autoscaling": {"enabled": True}}},
        "HorizontalPodAutoscaler",
        [f"{NAME}-gateway"],
    ),
    ({"gateway": {"autoscaling": {"enabled": True}}}, "PodDisruptionBudget", [f"{NAME}-gateway"]),
    (
        {"gateway": {"replicas": 5, "autoscaling": {"enabled": True, "minReplicas": 1}}},
        "PodDisruptionBudget",
        [],
    ),
    ({"ingress": {"enabled": True, "host": "a.example.com"}}, "Ingress", [f"{NAME}-gateway"]),
    ({"crds": {"install": False}}, "CustomResourceDefinition", []),
    ({"networkPolicy": {"enabled": False}}, "NetworkPolicy", []),
    ({"serviceMonitor": {"enabled": True}}, "ServiceMonitor", [NAME]),
    ({"prometheusRule": {"enabled": True}}, "PrometheusRule", [NAME]),
    (
        {"serviceMonitor": {"enabled": True}, **EXTERNAL},
        "Service",
        [f"{NAME}-dispatch", f"{NAME}-gateway", f"{NAME}-operator"],
    ),
    ({"rbac": {"create": False}}, "ClusterRole", []),
    ({"rbac": {"create": False}}, "ClusterRoleBinding", []),
    ({"rbac": {"create": False}}, "Role", []),
    ({"gateway": {"serviceAccount": {"create": False}}}, "ServiceAccount", [f"{NAME}-operator"]),
    ({"fullnameOverride": "x"}, "Secret", ["x"]),
]


@pytest.mark.parametrize(("values", "kind", "names"), SWITCHES)
def test_a_switch_makes_and_unmakes(
    render: Callable[..., Any], values: dict[str, Any], kind: str, names: list[str]
) -> None:
    assert render(values).names(kind) == names


def test_the_alerts_are_of_metrics_that_there_are(render: Callable[..., Any]) -> None:
    rule = render({"prometheusRule": {"enabled": True, "oldestOpenSeconds": 99}}).one(
        "PrometheusRule", NAME
    )
    (group,) = rule["spec"]["groups"]
    expressions = {alert["alert"]: alert["expr"] for alert in group["rules"]}
    assert set(expressions) == {
        "InferenceLoopStalled",
        "InferenceDispatchAbsent",
        "InferenceOperatorAbsent",
        "InferencePredictionOld",
        "InferenceNamespaceRefused",
        "InferenceItemsSetAside",
    }
    assert store.REFUSED  # a gateway's
    known = metrics.render().decode() + ClusterMetrics().exposition().decode()
    for expression in expressions.values():
        for metric in re.findall(r"inference_\w+", expression):
            assert f"# HELP {metric}" in known
        assert "namespace=" in expression
    assert expressions["InferencePredictionOld"].endswith("> 99")


def test_an_autoscaled_gateway_has_no_replicas_of_its_own(render: Callable[..., Any]) -> None:
    scaled = render({"gateway": {"autoscaling": {"enabled": True}}})
    assert "replicas" not in scaled.one("Deployment", f"{NAME}-gateway")["spec"]
    assert render().one("Deployment", f"{NAME}-gateway")["spec"]["replicas"] == 1


def test_secrets_are_made_once_for_a_rendering(render: Callable[..., Any]) -> None:
    encoded = render().one("Secret", NAME)["data"]
    data = {key: base64.b64decode(value).decode() for key, value in encoded.items()}
    database, redis = data["POSTGRES_PASSWORD"], data["REDIS_PASSWORD"]
    assert data["DATABASE_URL"] == (
        f"postgresql://inference:{database}@{NAME}-postgresql.prod.svc:5432/inference"
    )
    assert data["REDIS_URL"] == f"redis://:{redis}@{NAME}-valkey.prod.svc:6379/0"
    assert len({database, redis, data["SECRET_KEY"]}) == 3
    assert all(
        len(data[key]) == 48 for key in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY")
    )


def test_secrets_come_from_the_release_or_from_those_named(render: Callable[..., Any]) -> None:
    own = render().environment("gateway")
    assert own["DATABASE_URL"] == secret(NAME, "DATABASE_URL")
    assert own["SECRET_KEY"] == secret(NAME, "SECRET_KEY")
    given = render(EXTERNAL)
    for component in ("gateway", "dispatch"):
        found = given.environment(component)
        assert found["DATABASE_URL"] == secret("db", "url")
        assert found["REDIS_URL"] == secret("redis", "url")
        assert found["SECRET_KEY"] == secret("auth", "signing")
    operator = given.environment("operator")
    assert operator["RUNNER_REDIS_URL"] == secret("redis", "runner-url")
    assert "RUNNER_REDIS_URL" not in render().environment("operator")
    assert "DATABASE_URL" not in operator


@pytest.mark.parametrize("values", [{}, EVERYTHING, EXTERNAL | EVERYTHING])
def test_no_secret_stands_in_a_manifest(render: Callable[..., Any], values: dict[str, Any]) -> None:
    made = render(values)
    words = re.compile(r"PASSWORD|(?<!PER_)TOKEN$|SECRET|KEY$|DATABASE_URL|REDIS_URL")
    for name, container in made.containers().items():
        for entry in container.get("env", ()):
            if words.search(entry["name"]):
                assert "secretKeyRef" in entry.get("valueFrom", {}), f"{name}: {entry['name']}"
    for found in made:
        if found["kind"] == "ConfigMap":
            assert not [key for key in found["data"] if words.search(key)]


@pytest.mark.parametrize("values", [{}, EVERYTHING, EXTERNAL])
def test_pods_are_within_the_restricted_standard(
    render: Callable[..., Any], values: dict[str, Any]
) -> None:
    made = render(values)
    for component, pod in made.pods().items():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, component
        assert context["runAsUser"] == (999 if component in ("postgresql", "valkey") else 10001)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is (component in ("gateway", "operator"))
    for name, container in made.containers().items():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], name
        assert set(container["resources"]) == {"requests", "limits"}, name
        assert "memory" in container["resources"]["limits"], name


def test_probes(render: Callable[..., Any]) -> None:
    containers = render().containers()
    for component, port in (("gateway", 8000), ("dispatch", 8001), ("operator", 8002)):
        container = containers[f"{component}/{component}"]
        (named,) = container["ports"]
        assert named["containerPort"] == port
        get = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")}
        assert get == {
            "liveness": {"path": "/health/live", "port": named["name"]},
            "readiness": {"path": "/health/ready", "port": named["name"]},
        }


def test_in_development_the_processes_follow_their_sources(render: Callable[..., Any]) -> None:
    made = render({"development": True}).containers()
    modules = ("inference_gateway", "inference_gateway.dispatch", "inference_operator")
    for component, module in zip(OURS, modules, strict=True):
        usual = render().containers()[f"{component}/{component}"]
        assert usual["command"] == ["python", "-m", module]
        container = made.pop(f"{component}/{component}")
        reload = ["watchfiles", "--filter", "python", f"python -m {module}", "/srv"]
        assert container["command"] == reload
        assert container["securityContext"]["readOnlyRootFilesystem"] is False
        # A container that starts anew has its image's sources again.
        assert "livenessProbe" not in container
    assert all(c["securityContext"]["readOnlyRootFilesystem"] is True for c in made.values())


def test_placement_and_pull_secrets(render: Callable[..., Any]) -> None:
    pods = render(EVERYTHING).pods()
    assert pods["gateway"]["nodeSelector"] == {"disk": "ssd"}
    assert pods["dispatch"]["tolerations"] == [{"key": "a", "operator": "Exists"}]
    assert all(pod["imagePullSecrets"] == [{"name": "registry"}] for pod in pods.values())


@pytest.mark.parametrize("component", OURS)
@pytest.mark.parametrize("values", [{}, EVERYTHING, EXTERNAL | EVERYTHING])
def test_the_processes_understand_their_environment(
    render: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    component: str,
    values: dict[str, Any],
) -> None:
    settings = SETTINGS[component]
    given = render(values).environment(component)
    unknown = {name.lower() for name in given} - set(settings.model_fields)
    assert unknown == set()
    for name, value in given.items():
        secret = "redis://host/0" if name.endswith("_URL") else "x" * 32
        monkeypatch.setenv(name, value if isinstance(value, str) else secret)
    settings(_env_file=None)


def test_the_log_of_the_database_quotes_nothing(render: Callable[..., Any]) -> None:
    spec = render().one("StatefulSet", f"{NAME}-postgresql")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert {"log_min_error_statement=panic", "log_error_verbosity=terse"} <= {*container["args"]}


def test_what_is_said_to_the_processes(
    render: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = render(EVERYTHING | {"enableGpu": False, "config": {"leaseSeconds": 12.5}})
    for component in OURS:
        found = made.environment(component)
        assert (found["LEASE_SECONDS"], found["WATCH_NAMESPACES"]) == ("12.5", "ada,bob")
    # Namespaces that are not there yet have no role of ours.
    assert made.environment("gateway")["CREATE_OWNER_NAMESPACES"] == "false"
    assert made.environment("gateway")["PUBLIC_URL"] == "https://api.example.com"
    operator = made.environment("operator")
    assert operator["RUNNER_IMAGE"] == "inference-runner:0.1.0"
    assert operator["MODEL_CACHE_NODE_PATH"] == "/var/cache/models"
    assert operator["HF_ENDPOINT"] == "http://hub.example.com:8080"
    assert operator["ENABLE_GPU"] == "false"
    assert list(json.loads(operator["HARDWARE_PROFILES"])) == ["cpu", "nvidia-h100", "nvidia-t4"]


@pytest.mark.parametrize(
    ("values", "standard"),
    [
        ({}, "restricted"),
        # The standards refuse a pod a folder of its node.
        ({"runner": {"cacheNodePath": "/cache"}}, "privileged"),
        ({"ownerNamespaces": {"podSecurity": "baseline"}}, "baseline"),
    ],
)
def test_what_owners_namespaces_enforce(
    render: Callable[..., Any], values: dict[str, Any], standard: str
) -> None:
    found = render(values).environment("gateway")
    assert found["OWNER_NAMESPACE_POD_SECURITY"] == standard


def test_secrets_that_runners_images_are_pulled_with(render: Callable[..., Any]) -> None:
    made = render({"runner": {"imagePullSecrets": ["mine", "other"]}})
    assert made.environment("operator")["RUNNER_IMAGE_PULL_SECRETS"] == "mine,other"
    assert "RUNNER_IMAGE_PULL_SECRETS" not in render().environment("operator")


def test_large_numbers_are_written_out(render: Callable[..., Any]) -> None:
    assert render().environment("gateway")["MAX_BODY_BYTES"] == "10000000"


def test_webhooks_name_a_url_that_leads_to_the_gateway(render: Callable[..., Any]) -> None:
    assert render().environment("dispatch")["PUBLIC_URL"] == f"http://{NAME}-gateway.prod.svc:80"
    assert "PUBLIC_URL" not in render().environment("gateway")


def test_the_ingress_leads_to_the_gateway(render: Callable[..., Any]) -> None:
    spec = render(EVERYTHING).one("Ingress", f"{NAME}-gateway")["spec"]
    assert spec["tls"] == [{"hosts": ["api.example.com"], "secretName": "tls"}]
    (rule,) = spec["rules"]
    (path,) = rule["http"]["paths"]
    backend = {"service": {"name": f"{NAME}-gateway", "port": {"name": "http"}}}
    assert (rule["host"], path["path"], path["backend"]) == ("api.example.com", "/", backend)


def test_the_definition_is_that_of_the_repository(render: Callable[..., Any]) -> None:
    copy, source = CHART / "files" / f"{PLURAL}.yaml", ROOT / "crds" / f"{PLURAL}.yaml"
    assert copy.read_text() == source.read_text(), f"cp {source} {copy}"
    expected = yaml.safe_load(source.read_text())
    found = render().one("CustomResourceDefinition", f"{PLURAL}.{GROUP}")
    assert found["spec"] == expected["spec"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    given_up = render({"crds": {"keep": False}})
    assert (
        "annotations"
        not in given_up.one("CustomResourceDefinition", f"{PLURAL}.{GROUP}")["metadata"]
    )


def test_a_changed_setting_makes_new_pods(render: Callable[..., Any]) -> None:
    def checksum(values: dict[str, Any]) -> str:
        pod = render(EXTERNAL | values).one("Deployment", f"{NAME}-gateway")["spec"]["template"]
        found: str = pod["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum({}) == checksum({}) != checksum({"config": {"maxAttempts": 5}})


def test_another_version_of_the_chart_is_no_reason_for_new_pods(
    render: Callable[..., Any], tmp_path: Path
) -> None:
    """The two databases have one pod each: a new one is an outage."""
    other = tmp_path / "chart"
    shutil.copytree(CHART, other)
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (other / "Chart.yaml").write_text(
        yaml.safe_dump(about | {"version": "9.8.7", "appVersion": "9"})
    )
    images = {part: {"image": {"tag": "1"}} for part in ("gateway", "operator", "runner")}

    def templates(chart: Path) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = render(images, chart).templates()
        for pod in found:
            # Made anew by each rendering without a cluster.
            pod["metadata"].get("annotations", {}).pop("checksum/secret", None)
        return found

    assert len(templates(CHART)) == 6
    assert templates(CHART) == templates(other)
