"""Converts InferenceModels between Kubernetes' form and the gateway's. Pure.

In the gateway `metadata.namespace` is the owner; on the cluster it is the namespace with the label
of that owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from inference_contract import owners
from inference_contract.inferencemodel import (
    API_VERSION,
    KIND,
    InferenceModel,
    InferenceModelStatus,
)
from inference_contract.pods import LABEL_OWNER, LABEL_OWNER_ID
from inference_gateway.models import documents
from inference_gateway.models.store import InvalidDocument

Entry = InferenceModel | InvalidDocument

_METADATA = ("name", "generation", "creationTimestamp")
"""The metadata that the gateway reads; it ignores labels and annotations."""


@dataclass(frozen=True)
class Homes:
    """The owners of namespaces."""

    of: Mapping[str, str]
    """Owner → namespace."""
    rivals: Mapping[str, str]
    """Namespace → owner, where that owner has an older namespace."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """Owner → id of the account that the namespace belongs to, if it has that label."""


def homes(namespaces: Iterable[Mapping[str, Any]]) -> Homes:
    """As `owners.home` decides it, of each owner."""
    found = {owners.read(n["metadata"]): n["metadata"] for n in namespaces}
    by_owner: dict[str, list[owners.Namespace]] = {}
    for namespace in sorted(found):
        if owners.is_name(namespace.owner):
            by_owner.setdefault(namespace.owner, []).append(namespace)
    of = {owner: owners.home(theirs) for owner, theirs in by_owner.items()}
    return Homes(
        of,
        rivals={n.name: o for o, theirs in by_owner.items() for n in theirs if n.name != of[o]},
        ids={
            namespace.owner: metadata["labels"][LABEL_OWNER_ID]
            for namespace, metadata in found.items()
            if of.get(namespace.owner) == namespace.name and LABEL_OWNER_ID in metadata["labels"]
        },
    )


def may_hold(
    owner: str, holding: Set[str], homes: Homes, last_home: str | None, *, sees_all: bool
) -> bool:
    """Whether one of the namespaces with a model of this name may be this owner's.

    Args:
        last_home: the owner's last known namespace. Removing a label deletes no model: until the
            label is back, or the model is deleted, the answer stays "may".
        sees_all: whether all namespaces are known.
    """
    mine = {namespace for namespace, other in homes.rivals.items() if other == owner}
    home = homes.of.get(owner, last_home)
    if home is not None:
        return not holding.isdisjoint({home, *mine})
    owned = {*homes.of.values(), *homes.rivals}
    return not sees_all or not holding <= owned


def manifest(model: InferenceModel, namespace: str) -> dict[str, Any]:
    """The custom resource: name and spec, without default values."""
    metadata = {"name": model.metadata.name, "namespace": namespace}
    spec = manifest_spec(model)
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def manifest_spec(model: InferenceModel) -> dict[str, Any]:
    """The spec without defaults, which the API server sets, and without null values."""
    return model.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def entry(found: Mapping[str, Any], owner: str, before: Entry | None) -> Entry:
    """The model of a custom resource.

    Args:
        before: the entry of an earlier version of the object; an unchanged spec is reused.
    """
    metadata = found["metadata"]
    status = _status(found.get("status") or {})
    generation = metadata.get("generation")
    if isinstance(before, InferenceModel) and before.metadata.generation == generation:
        return before.model_copy(update={"status": status})
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    content = {key: found[key] for key in ("apiVersion", "kind", "spec") if key in found}
    try:
        model = documents.parse({**content, "metadata": {**kept, "namespace": owner}})
    except documents.InvalidModel as error:
        return InvalidDocument(f"{owner}/{metadata['name']}", str(error))
    return model.model_copy(update={"status": status})


def rival(found: Mapping[str, Any], owner: str, home: str) -> InvalidDocument:
    """The entry for a model in a namespace whose owner has an older namespace."""
    name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
    says = f"{namespace} is labelled {LABEL_OWNER}={owner}, but so is {home}, which is older"
    return InvalidDocument(f"{owner}/{name}", f"metadata.namespace: {says}")


def _status(status: Any) -> InferenceModelStatus:
    try:
        return InferenceModelStatus.model_validate(status)
    except ValidationError:
        # Written by another version: the operator will replace it.
        return InferenceModelStatus()
