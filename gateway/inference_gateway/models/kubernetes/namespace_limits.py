"""What the models of one owner may take of the cluster: a ResourceQuota and a LimitRange in each
namespace that is made for an account. Pure."""

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
    """A quota of cpu or memory refuses pods that ask for none, so every container asks for some."""
    container = {"type": "Container", "defaultRequest": {"cpu": "100m", "memory": "128Mi"}}
    claim = {"type": "PersistentVolumeClaim", "max": {"storage": largest_claim}}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"limits": [container, claim] if largest_claim else [container]},
    }
