"""Types for Kubernetes objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Manifest = dict[str, Any]
"""An object as JSON: the one to apply, or the one that the API server returned."""
Key = tuple[str, str]
"""Namespace and name of an InferenceModel."""

MAX_NOTE = 1000
"""Bytes of an event's note: the API server accepts 1,024."""


@dataclass(frozen=True)
class KubernetesEvent:
    """An Event of an InferenceModel, for `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str
