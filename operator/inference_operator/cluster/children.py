"""The common parts of a model's children: name, labels, owner reference, fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_contract.inferencemodel import API_VERSION, KIND
from inference_contract.pods import LABEL_MODEL
from inference_operator.cluster.api.objects import Manifest

ANNOTATION_APPLIED = "inference-server.dev/applied-hash"
"""Fingerprint of the manifest applied last: tells a changed model from a changed object."""
APP = {"app.kubernetes.io/name": "inference-runner", "app.kubernetes.io/managed-by": "inference"}


@dataclass(frozen=True)
class Parent:
    """The InferenceModel that a child belongs to."""

    namespace: str
    name: str
    uid: str

    @property
    def child(self) -> str:
        """The name of every child; each kind has one."""
        return f"{self.name}-runner"

    @property
    def selector(self) -> dict[str, str]:
        """The pods' labels. It must never change, as a Deployment's selector is immutable."""
        return {LABEL_MODEL: self.name}


def manifest(
    api_version: str,
    kind: str,
    parent: Parent,
    labels: Mapping[str, str],
    content: Mapping[str, Any],
    *,
    is_owned: bool = True,
) -> Manifest:
    """A complete child.

    Args:
        content: the manifest without its type and metadata.
        is_owned: the garbage collector removes the child with the model.
    """
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": parent.name,
        "uid": parent.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    made: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": parent.child,
            "namespace": parent.namespace,
            "labels": {**APP, **labels},
            **({"ownerReferences": [owner]} if is_owned else {}),
        },
        **content,
    }
    return stamped(made)


def stamped(made: Manifest) -> Manifest:
    """The manifest with its fingerprint as the only annotation."""
    bare = {key: value for key, value in made["metadata"].items() if key != "annotations"}
    content = {**made, "metadata": bare}
    annotations = {ANNOTATION_APPLIED: fingerprint(content)}
    return {**content, "metadata": {**bare, "annotations": annotations}}


def fingerprint(content: Any) -> str:
    """A short hash of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
