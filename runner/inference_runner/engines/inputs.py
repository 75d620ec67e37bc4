"""Reads an input's values; a wrong type or range is an InputError, which the caller can correct."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from inference_runner.engines.base import InputError


def text(inputs: Mapping[str, Any], name: str) -> str:
    """Raises InputError, like all of these."""
    value = inputs.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string")
    return value


def number(
    inputs: Mapping[str, Any], name: str, default: float, low: float, high: float = math.inf
) -> float:
    """`default` if it is missing or null."""
    value = inputs.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number")
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, not {value}")
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise InputError(f"{name} must be {bounds}, not {value}")
    return value


def integer(inputs: Mapping[str, Any], name: str, default: int, low: float) -> int:
    value = number(inputs, name, default, low)
    if value != int(value):
        raise InputError(f"{name} must be an integer, not {value}")
    return int(value)


def boolean(inputs: Mapping[str, Any], name: str, default: bool) -> bool:
    value = inputs.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false")
    return value


def seed(inputs: Mapping[str, Any], default: int) -> int:
    """Any integer is allowed; torch's generators use 64 bits of it."""
    return integer(inputs, "seed", default, -math.inf) % 2**64
