"""What is said of objects of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Manifest = dict[str, Any]
"""An object as JSON: what is applied, or what the API server has."""
Key = tuple[str, str]
"""Namespace and name of an InferenceModel."""

MAX_NOTE = 1000
"""Bytes of an event's note: the API server takes 1,024."""


@dataclass(frozen=True)
class KubernetesEvent:
    """Of an InferenceModel, for `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str
