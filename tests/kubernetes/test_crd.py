"""What the API server itself makes of the definition: defaults, refusals, subresources, columns."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from narrow import there

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION, InferenceModel

EXAMPLES = Path(__file__).parents[2] / "crds" / "examples"
SPEC: dict[str, Any] = {"type": "text-generation", "source": {"path": "/models/m"}}
CUSTOM = {"type": "custom", "engine": {"className": "echo:Echo"}}
SECRET = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
Create = Callable[..., dict[str, Any]]


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    return make_namespace("alice")


@pytest.fixture
def objects(api: kubernetes.client.ApiClient) -> kubernetes.client.CustomObjectsApi:
    return kubernetes.client.CustomObjectsApi(api)


@pytest.fixture
def create(objects: kubernetes.client.CustomObjectsApi, namespace: str) -> Create:
    """Creates a model as it is, past the types of the contract; as the API server then has it."""

    def make(name: str = "m", **spec: Any) -> dict[str, Any]:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceModel",
            "metadata": {"name": name},
            "spec": SPEC | spec,
        }
        made: Any = objects.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)
        return dict(made)

    return make


def _kubectl(*arguments: str) -> str:
    done = subprocess.run(
        ["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_example_is_accepted(
    objects: kubernetes.client.CustomObjectsApi, namespace: str, file: Path
) -> None:
    document = yaml.safe_load(file.read_text())
    document["metadata"].pop("namespace", None)
    objects.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, document)


def test_defaults_are_those_of_the_types(create: Create) -> None:
    made = create()
    typed = InferenceModel.model_validate({**made, "metadata": {"name": "m", "namespace": "alice"}})
    ours = InferenceModel.model_validate(
        {"metadata": {"name": "m", "namespace": "alice"}, "spec": SPEC}
    )
    assert typed.spec == ours.spec
    assert made["spec"]["timeouts"]["loadSeconds"] == ours.spec.timeouts.load_seconds


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"minReplicas": 2}, "minReplicas must not exceed maxReplicas"),
    ({"source": {}}, "set exactly one of path, pvc, hub, wheel"),
    ({"source": {"path": "/m", "hub": {"repo": "a"}}}, "set exactly one of path, pvc, hub, wheel"),
    ({"type": "custom"}, "engine.className is required for type custom, and only there"),
    ({"engine": {"className": "echo:Echo"}}, "engine.className is required for type custom"),
    (CUSTOM | {"source": {"hub": {"repo": "a"}}}, "type custom takes its code from source.path"),
    ({"env": [{"name": "A", "value": "b", **SECRET}]}, "set value or valueFrom, not both"),
    (
        {"inputSchema": {"n": {"type": "integer", "minimum": 2, "maximum": 1}}},
        "minimum must not exceed maximum",
    ),
    ({"type": "text-to-text"}, 'Unsupported value: "text-to-text"'),
    ({"env": [{"name": "REDIS_URL", "value": "mine"}]}, "set by the server, choose another name"),
    ({"env": [{"name": "A"}, {"name": "A"}]}, "Duplicate value"),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_wrong_is_refused_with_a_reason(
    create: Create, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiException) as refused:
        create(**spec)
    assert refused.value.status == 422
    assert message in json.loads(there(refused.value.body))["message"]


def test_a_name_that_is_too_long_is_refused(create: Create) -> None:
    create("a" * 40)
    with pytest.raises(ApiException, match="a DNS label of at most 40 characters"):
        create("a" * 41)


def test_kubectl_scale_sets_the_least_replicas(create: Create, namespace: str) -> None:
    create(maxReplicas=3)
    _kubectl("-n", namespace, "scale", "inferencemodel/m", "--replicas=2")
    where = "jsonpath={.spec.minReplicas}"
    assert _kubectl("-n", namespace, "get", "im", "m", "-o", where) == "2"
    done = subprocess.run(
        ["kubectl", "-n", namespace, "scale", "inferencemodel/m", "--replicas=4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "minReplicas must not exceed maxReplicas" in done.stderr


def test_kubectl_get_and_explain(
    create: Create, objects: kubernetes.client.CustomObjectsApi, namespace: str
) -> None:
    create()
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "LoadingModel",
        "message": "loading since 3 s",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    status = {"status": {"replicas": 1, "queued": 7, "conditions": [condition]}}
    objects.patch_namespaced_custom_object_status(GROUP, VERSION, namespace, PLURAL, "m", status)
    header, line = _kubectl("-n", namespace, "get", "im").splitlines()
    assert header.split() == ["NAME", "TYPE", "READY", "REPLICAS", "QUEUE", "REASON", "AGE"]
    assert line.split()[:-1] == ["m", "text-generation", "False", "1", "7", "LoadingModel"]
    assert "A hardware profile" in _kubectl("explain", "inferencemodel.spec.hardware")
