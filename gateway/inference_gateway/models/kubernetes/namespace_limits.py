"""Limits for one owner's models: a ResourceQuota and a LimitRange in each namespace that is created
for an account. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = "inference-owner"


def quota(namespace: str, hard: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"hard": dict(hard)},
    }


def limits(namespace: str, largest_claim: str) -> dict[str, Any]:
    """The LimitRange. With a quota of cpu or memory, pods without requests are refused, so it sets
    default requests."""
    container = {"type": "Container", "defaultRequest": {"cpu": "100m", "memory": "128Mi"}}
    claim = {"type": "PersistentVolumeClaim", "max": {"storage": largest_claim}}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"limits": [container, claim] if largest_claim else [container]},
    }
