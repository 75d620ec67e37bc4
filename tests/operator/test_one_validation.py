"""Gateway and operator judge every document alike: both by the contract, and neither by more."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.models import documents
from inference_gateway.models.catalog import CatalogModel
from inference_gateway.models.kubernetes import documents as kubernetes_documents
from inference_operator.cluster.resource import Refusal, parse

NAMES = st.sampled_from(["a", "b", "prompt"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 2.0, -1.5])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "a", "b", "long text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=5,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "text"])
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.just(["string", "null"]) | st.just("null"),
            "enum": st.lists(VALUES, max_size=2) | VALUES,
            "minimum": NUMBERS | st.just("1"),
            "maxLength": NUMBERS,
            "multipleOf": NUMBERS,
            "required": st.lists(NAMES, max_size=2) | st.booleans(),
            "pattern": st.just("(a+)+$"),
            "$ref": st.just("#"),
            "nullable": st.booleans(),
            "default": VALUES,
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "items": inner | st.booleans(),
            "anyOf": st.lists(inner, max_size=2),
            "properties": st.dictionaries(NAMES, inner, max_size=2) | VALUES,
            "not": inner | VALUES,
        },
    ),
    max_leaves=4,
)
PARAMETERS = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "default": VALUES,
        "required": st.booleans() | st.none(),
        "enum": st.lists(VALUES, max_size=3),
        "minimum": NUMBERS,
        "maximum": NUMBERS,
        "maxLength": st.integers(-1, 5),
        "items": SCHEMAS,
    },
)
AMOUNTS = st.sampled_from(["1", 1, 0.5, "500m", "4Gi", "4 GB", True, None, -1])
RESOURCES = st.dictionaries(st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]), AMOUNTS)
ENV = st.fixed_dictionaries(
    {"name": st.sampled_from(["A", "REDIS_URL", "POD_NAME", "RUNNER_PORT", "1A"])},
    optional={
        "value": st.sampled_from(["", "$(A)", 1, None]),
        "valueFrom": st.just({"secretKeyRef": {"name": "s", "key": "k"}}),
    },
)
SPECS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["custom", "text-generation", "nothing"]),
        "source": st.sampled_from(
            [{"path": "/m"}, {"hub": {"repo": "a/b"}}, {}, {"path": "/m", "hub": {"repo": "a"}}]
        ),
    },
    optional={
        "inputSchema": st.dictionaries(NAMES, PARAMETERS, max_size=2),
        "engine": st.sampled_from([{"className": "a:B"}, {}, {"parameters": {"price": "$$5"}}]),
        "env": st.lists(ENV, max_size=2),
        "pod": st.fixed_dictionaries(
            {"resources": st.fixed_dictionaries({"limits": RESOURCES, "requests": RESOURCES})}
        ),
        "minReplicas": st.integers(-1, 3),
        "maxReplicas": st.integers(0, 3),
        "unknown": st.just(1),
    },
)


def _by_the_operator(found: dict[str, Any]) -> bool:
    try:
        parse(found, owner="alice", home="team-a")
    except Refusal:
        return False
    return True


def _by_the_gateway(found: dict[str, Any]) -> bool:
    entry = kubernetes_documents.entry(found, "alice", None)
    if not isinstance(entry, InferenceModel):
        return False
    CatalogModel(entry)  # Takes every valid document.
    return True


def _by_the_api(found: dict[str, Any]) -> bool:
    try:
        documents.parse(found)
    except documents.InvalidModel:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(SPECS)
def test_all_judge_a_document_alike(spec: dict[str, Any]) -> None:
    found = {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {
            "name": "m",
            "namespace": "team-a",
            "uid": "uid-1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": spec,
    }
    verdict = _by_the_operator(found)
    assert _by_the_gateway(found) is verdict
    assert _by_the_api(found) is verdict


@settings(max_examples=300, deadline=None)
@given(PARAMETERS, VALUES)
def test_a_default_is_judged_as_an_input(parameter: dict[str, Any], value: object) -> None:
    """The contract's way of judging a value, and the gateway's faster one."""
    from pydantic import ValidationError

    from inference_contract.parameters import Parameter, problem, simple_items
    from inference_gateway.models.inputs.budget import Budget
    from inference_gateway.models.inputs.checker import _compile

    parameter.pop("default", None)
    try:
        made = Parameter.model_validate(parameter)
    except ValidationError:
        return
    if made.items is None or simple_items(made.items) is not None:
        assert (problem(made, value) is None) is (_compile(made)(value, Budget()) is None)
