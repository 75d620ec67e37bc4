"""The volume claim for a model's downloaded and converted weights, if the model has its own."""

from __future__ import annotations

from collections.abc import Mapping

from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import Parent, manifest, stamped


def cache_claim(
    parent: Parent,
    labels: Mapping[str, str],
    size: str,
    storage_class: str | None,
    *,
    is_shared: bool,
) -> Manifest:
    """The claim to create.

    Args:
        is_shared: whether several replicas may use it, perhaps on different nodes.
    """
    spec: Manifest = {
        "accessModes": ["ReadWriteMany" if is_shared else "ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return manifest("v1", "PersistentVolumeClaim", parent, labels, {"spec": spec})


def may_grow(claim: Manifest, observed: Manifest) -> Manifest:
    """The claim with the existing immutable fields; only its size may change."""
    fixed = ("accessModes", "storageClassName")
    kept = {field: observed["spec"][field] for field in fixed if field in observed["spec"]}
    resources = {"resources": claim["spec"]["resources"]}
    return stamped({**claim, "spec": {**kept, **resources}})
