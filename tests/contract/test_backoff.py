"""Pauses between tries."""

from __future__ import annotations

import pytest

from inference_contract.backoff import pause


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.5), (2, 1.0), (3, 2.0), (9, 60.0), (10_000, 60.0)]
)
def test_they_double_up_to_the_longest(failures: int, expected: float) -> None:
    assert pause(failures, 0.5, 60.0) == expected
