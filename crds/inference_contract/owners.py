"""Whose a namespace is, and which of an owner's namespaces has the owner's models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from inference_contract.inferencemodel import NAME_PATTERN
from inference_contract.pods import LABEL_OWNER

_LATER_THAN_ALL = "~"


class Namespace(NamedTuple):
    """Of two the older is the smaller."""

    created: str
    name: str
    owner: str
    """As its label says; empty: nobody's."""


def read(metadata: Mapping[str, Any]) -> Namespace:
    """Of a Namespace's metadata. One that is being deleted is nobody's any more, and one that does
    not say how old it is counts as the youngest."""
    labels = metadata.get("labels")
    owner = str(labels.get(LABEL_OWNER) or "") if isinstance(labels, dict) else ""
    if "deletionTimestamp" in metadata:
        owner = ""
    created = str(metadata.get("creationTimestamp") or _LATER_THAN_ALL)
    return Namespace(created, metadata["name"], owner)


def is_name(owner: str) -> bool:
    """A label may hold more than a name may; no account is called like that."""
    return re.fullmatch(NAME_PATTERN, owner) is not None


def home(namespaces: Iterable[Namespace]) -> str:
    """The namespace that counts, of those of one owner; empty: none.

    The oldest, so that a label that somebody adds takes nobody's models away.
    """
    oldest = min(namespaces, default=None)
    return oldest.name if oldest else ""
