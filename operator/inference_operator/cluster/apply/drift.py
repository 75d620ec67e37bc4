"""Whether an object of the cluster still has what was applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import ANNOTATION_APPLIED


def needs_apply(observed: Manifest | None, desired: Manifest) -> bool:
    """Whether the object is missing, was made from another manifest, or lacks a field of ours."""
    if observed is None:
        return True
    applied = observed["metadata"].get("annotations", {}).get(ANNOTATION_APPLIED)
    if applied != desired["metadata"]["annotations"][ANNOTATION_APPLIED]:
        return True
    return lacks(observed, desired)


def lacks(observed: Any, desired: Any) -> bool:
    """Whether `observed` lacks any value of `desired`; further values in it are no drift.

    Empty and false values count as absent, as the API server omits them. Quantities are compared by
    value.
    """
    if isinstance(desired, Mapping):
        there = observed if isinstance(observed, Mapping) else {}
        return any(lacks(there.get(key), value) for key, value in desired.items())
    if isinstance(desired, list):
        return _list_lacks(observed if isinstance(observed, list) else [], desired)
    if not desired and not observed:
        return False
    return bool(observed != desired) and not _same_amount(observed, desired)


def _list_lacks(observed: list[Any], desired: list[Any]) -> bool:
    key = next((k for k in ("mountPath", "name") if desired and _has(desired[0], k)), None)
    if key is None:
        pairs = zip(observed, desired, strict=False)
        return len(observed) != len(desired) or any(lacks(o, d) for o, d in pairs)
    by_key = {item.get(key): item for item in observed}
    return any(lacks(by_key.get(item[key]), item) for item in desired)


def _has(item: Any, key: str) -> bool:
    return isinstance(item, Mapping) and key in item


def _same_amount(observed: Any, desired: Any) -> bool:
    """`1024Mi` comes back as `1Gi`."""
    try:
        amounts = [parse_quantity(value) for value in (observed, desired)]
    except (ValueError, TypeError):
        return False
    return bool(amounts[0] == amounts[1])
