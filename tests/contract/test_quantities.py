"""Amounts of resources, as people write them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from inference_contract.inferencemodel import Cache, Resources
from inference_contract.quantities import amount, as_quantity


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        *(("500m", "0.5"), ("2", "2"), ("0.5", "0.5"), ("1k", "1000"), ("1M", "1000000")),
        *(("1Ki", "1024"), ("1.5Gi", "1610612736"), ("1E", "1000000000000000000")),
    ],
)
def test_what_an_amount_stands_for(quantity: str, expected: str) -> None:
    assert amount(quantity) == Decimal(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(1, "1"), (0.5, "0.5"), (2.0, "2"), ("4Gi", "4Gi"), (0, "0"), (0.000001, "0.000001")],
)
def test_an_amount_needs_no_quotes(given: Any, expected: str) -> None:
    assert Resources(limits={"cpu": given}).limits == {"cpu": expected}
    assert Cache(size=given).size == expected


@pytest.mark.parametrize("number", [1e16, 1e-7])
def test_a_number_is_written_without_an_exponent(number: float) -> None:
    written = as_quantity(number)
    assert isinstance(written, str)
    assert "E" not in written.upper()
    assert float(written) == number


@pytest.mark.parametrize(
    "given", [True, -1, "4 GB", "1e3", 1e300, float("nan"), None, [1], "", 1e-9]
)
def test_what_is_no_amount(given: Any) -> None:
    with pytest.raises(ValidationError):
        Resources(limits={"cpu": given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limits": {"nvidia.com/gpu": 0.5}}, "limits.nvidia.com/gpu must be a whole number"),
        (
            {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}},
            r"requests.memory \(1Gi\) is more than limits.memory \(512Mi\)",
        ),
    ],
)
def test_what_contradicts_itself(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Resources.model_validate(given)
