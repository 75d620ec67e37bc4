"""What models ask for, added up."""

from __future__ import annotations

from typing import Any

import pytest

from inference_contract.inferencemodel import InferenceModelSpec
from inference_gateway.quotas.amounts import Amounts, amount, total


def spec(**fields: Any) -> InferenceModelSpec:
    return InferenceModelSpec.model_validate(
        {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **fields}
    )


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("0", 0),
        ("500m", 1),
        ("1500m", 2),
        ("2", 2),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 1_610_612_736),
        ("900Ti", 900 * 2**40),
        ("1E", 10**18),
    ],
)
def test_quantities(quantity: str, number: int) -> None:
    assert amount(quantity) == number


GPU = {"pod": {"resources": {"limits": {"nvidia.com/gpu": "4", "memory": "8Gi"}}}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Amounts(1, 1, 0, 0, 0)),
        ({"minReplicas": 2, "maxReplicas": 3}, Amounts(1, 3, 2, 0, 0)),
        ({"maxReplicas": 3, "hardware": "nvidia-h100"}, Amounts(1, 3, 0, 3, 0)),
        ({"maxReplicas": 3, "hardware": "nvidia-h100", **GPU}, Amounts(1, 3, 0, 12, 0)),
        ({"maxReplicas": 2, **GPU}, Amounts(1, 2, 0, 8, 0)),
        # While a change rolls out there are more.
        ({"maxReplicas": 3, "rollout": {"maxSurge": 1}}, Amounts(1, 4, 0, 0, 0)),
        ({"maxReplicas": 3, "rollout": {"maxSurge": 1000}}, Amounts(1, 6, 0, 0, 0)),
        ({"cache": {"size": "900Ti"}}, Amounts(1, 1, 0, 0, 900 * 2**40)),
    ],
)
def test_what_a_model_asks_for(fields: dict[str, Any], expected: Amounts) -> None:
    assert Amounts.of(spec(**fields)) == expected


def test_a_total() -> None:
    assert total([Amounts(1, 2, 0, 1, 5), Amounts(1, 1, 1, 0, 0)]) == Amounts(2, 3, 1, 1, 5)
