"""The owner of a namespace, and which of an owner's namespaces has the owner's models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from inference_contract.inferencemodel import NAME_PATTERN
from inference_contract.pods import LABEL_OWNER

_LATER_THAN_ALL = "~"


class Namespace(NamedTuple):
    """Sorts by age: the older is the smaller."""

    created: str
    name: str
    owner: str
    """From its label; empty if it has none."""


def read(metadata: Mapping[str, Any]) -> Namespace:
    """Read a Namespace's metadata. One that is being deleted counts as without owner, one without a
    creation time as the youngest."""
    labels = metadata.get("labels")
    owner = str(labels.get(LABEL_OWNER) or "") if isinstance(labels, dict) else ""
    if "deletionTimestamp" in metadata:
        owner = ""
    created = str(metadata.get("creationTimestamp") or _LATER_THAN_ALL)
    return Namespace(created, metadata["name"], owner)


def is_name(owner: str) -> bool:
    """Whether a label's value is a valid name of an account."""
    return re.fullmatch(NAME_PATTERN, owner) is not None


def home(namespaces: Iterable[Namespace]) -> str:
    """The namespace with the owner's models, of all with this owner; empty: none.

    The oldest one counts, so that a label added later does not take models away from their owner.
    """
    oldest = min(namespaces, default=None)
    return oldest.name if oldest else ""
