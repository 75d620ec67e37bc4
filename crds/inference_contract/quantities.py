"""Kubernetes quantities (kubernetes/apimachinery, pkg/api/resource/quantity.go)."""

from __future__ import annotations

from decimal import Decimal

_POWERS = {letter: n for n, letter in enumerate("kMGTPE", 1)}


def as_quantity(value: object) -> object:
    """Turn a number into text: YAML reads unquoted quantities as numbers."""
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return value


def amount(quantity: str) -> Decimal:
    """The value of a valid quantity."""
    number = quantity.rstrip("mkKMGTPEi")
    suffix = quantity[len(number) :]
    if suffix == "m":
        return Decimal(number) / 1000
    power = _POWERS.get(suffix[:1].replace("K", "k"), 0)
    return Decimal(number) * Decimal(1024 if suffix.endswith("i") else 1000) ** power
