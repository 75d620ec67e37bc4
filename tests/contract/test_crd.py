"""The CustomResourceDefinition says the same as the types."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from inference_contract.inferencemodel import InferenceModel, InferenceModelStatus

SPEC: dict[str, Any] = {"type": "text-generation", "source": {"path": "/models/m"}}


def _document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m", "namespace": "alice"},
        "spec": copy.deepcopy(SPEC) | spec,
    }


def _nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a structural schema."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}".lstrip("."))
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from _nodes(schema[name], f"{path}.*")


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """What jsonschema makes of a structural schema: `nullable` is OpenAPI's, not JSON Schema's."""
    result = dict(schema)
    if schema.get("nullable") and "type" in schema:
        result["type"] = [schema["type"], "null"]
    if "properties" in schema:
        result["properties"] = {k: _json_schema(v) for k, v in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if name in schema:
            result[name] = _json_schema(schema[name])
    return result


def test_the_committed_file_is_current(generate: Any) -> None:
    assert generate.OUTPUT.read_text() == generate.render(), "run `make crds`"


def test_the_file_is_a_definition_of_our_kind(generate: Any) -> None:
    found = yaml.safe_load(generate.OUTPUT.read_text())
    assert found["metadata"]["name"] == "inferencemodels.inference-server.dev"
    names = found["spec"]["names"]
    assert (names["kind"], names["shortNames"]) == ("InferenceModel", ["im"])
    (version,) = found["spec"]["versions"]
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.minReplicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns == ["Type", "Ready", "Replicas", "Queue", "Reason", "Age"]


def test_the_schema_is_structural(generate: Any) -> None:
    for path, node in _nodes(generate.openapi_schema()):
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert not node.keys() & {"$ref", "anyOf", "allOf", "oneOf", "const", "$defs"}, path
        assert not {"properties", "additionalProperties"} <= node.keys(), path
        assert node.get("default", ...) is not None, path


def test_every_rule_and_every_list_key_has_its_place(generate: Any) -> None:
    nodes = dict(_nodes(generate.openapi_schema()))
    for path, rules in generate.RULES.items():
        assert [r["rule"] for r in nodes[path]["x-kubernetes-validations"]] == [r for r, _ in rules]
    for path, key in generate.LIST_MAPS.items():
        assert nodes[path]["x-kubernetes-list-map-keys"] == [key]
        assert key in nodes[path]["items"]["required"]
    for path in generate.ABSENT:
        assert "nullable" not in nodes[path]


def test_defaults_reach_into_objects_that_were_left_out(generate: Any) -> None:
    spec = generate.openapi_schema()["properties"]["spec"]["properties"]
    assert {name for name, node in spec.items() if node.get("default") == {}} == {
        *("engine", "autoscaling", "rollout", "batching", "timeouts", "pod", "cache")
    }
    assert spec["timeouts"]["properties"]["predictSeconds"]["default"] == 300


def _secret(**reference: str) -> dict[str, Any]:
    return {"secretKeyRef": reference}


STRUCTURAL = [
    ("as small as it can be", {}, True),
    ("no such type", {"type": "text-to-text"}, False),
    ("no source", {"source": None}, False),
    ("a hub source", {"source": {"hub": {"repo": "a/b"}}}, True),
    ("a null revision", {"source": {"hub": {"repo": "a", "revision": None}}}, True),
    ("a hub source without repo", {"source": {"hub": {}}}, False),
    ("three parts of a repo", {"source": {"hub": {"repo": "a/b/c"}}}, False),
    ("a letter outside ASCII", {"version": "é"}, False),
    ("negative replicas", {"minReplicas": -1}, False),
    ("replicas as text", {"maxReplicas": "many"}, False),
    ("a fraction of a replica", {"maxReplicas": 1.5}, False),
    ("any engine parameters", {"engine": {"parameters": {"a": [1, {"b": None}]}}}, True),
    ("an unknown dtype", {"engine": {"dtype": "int3"}}, False),
    ("a class name without a class", {"engine": {"className": "echo"}}, False),
    ("a parameter", {"inputSchema": {"n": {"type": "integer", "enum": [1, 2]}}}, True),
    (
        "a parameter with items",
        {"inputSchema": {"n": {"type": "array", "items": {"minLength": 1}}}},
        True,
    ),
    ("a default", {"inputSchema": {"n": {"type": "object", "default": {"a": [1]}}}}, True),
    ("a null default", {"inputSchema": {"n": {"type": "string", "default": None}}}, True),
    ("a parameter without type", {"inputSchema": {"n": {}}}, False),
    ("an empty enum", {"inputSchema": {"n": {"type": "string", "enum": []}}}, False),
    ("65 parameters", {"inputSchema": {f"p{n}": {"type": "string"} for n in range(65)}}, False),
    ("an environment", {"env": [{"name": "A", "value": "b"}]}, True),
    ("an environment with a bad name", {"env": [{"name": "A-B"}]}, False),
    ("a claim", {"source": {"pvc": {"claimName": "c", "path": "a/b"}}}, True),
    ("a claim and a slash", {"source": {"pvc": {"claimName": "c", "path": "/a"}}}, False),
    ("a secret", {"env": [{"name": "A", "valueFrom": _secret(name="s", key="k")}]}, True),
    ("a secret without a key", {"env": [{"name": "A", "valueFrom": _secret(name="s")}]}, False),
    ("resources", {"pod": {"resources": {"limits": {"cpu": "500m", "memory": "4Gi"}}}}, True),
    ("resources without quotes", {"pod": {"resources": {"limits": {"cpu": 0.5}}}}, True),
    ("a device without quotes", {"pod": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, True),
    ("a toleration", {"pod": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}, True),
    ("a cache", {"cache": {"size": "20Gi"}}, True),
    ("hardware with capitals", {"hardware": "H200"}, False),
    ("no time to load", {"timeouts": {"loadSeconds": 0}}, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "accepted"),
    [pytest.param(spec, accepted, id=name) for name, spec, accepted in STRUCTURAL],
)
def test_types_and_schema_accept_the_same(
    generate: Any, spec: dict[str, Any], accepted: bool
) -> None:
    document = _document(**spec)
    schema = jsonschema.Draft202012Validator(_json_schema(generate.openapi_schema()))
    assert schema.is_valid(document) is accepted
    try:
        InferenceModel.model_validate(document)
    except ValidationError:
        assert not accepted
    else:
        assert accepted


def test_the_schema_holds_every_status_that_we_write(generate: Any) -> None:
    status = InferenceModelStatus.model_validate(
        {
            "replicas": 1,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
            "logTail": ["a"],
        }
    )
    schema = jsonschema.Draft202012Validator(_json_schema(generate.openapi_schema()))
    schema.validate(_document() | {"status": status.model_dump(mode="json", by_alias=True)})


@pytest.mark.parametrize(
    ("field", "annotation"), [("choice", int | str), ("pair", tuple[int, str])]
)
def test_a_type_that_kubernetes_cannot_hold_is_refused(
    generate: Any, field: str, annotation: Any
) -> None:
    from pydantic import create_model

    fields: dict[str, Any] = {field: (annotation, ...)}
    schema = create_model("Model", **fields).model_json_schema()
    with pytest.raises(generate.Unsupported, match=f"spec.{field}"):
        generate.structural(schema, {}, "spec")
