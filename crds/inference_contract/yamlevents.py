"""Checks a YAML document by its parser events, before it is composed.

YAML is larger than JSON, and a small text can be expensive: aliases that repeat each other, nesting
that crashes the process (libyaml recurses in C), and duplicate keys, of which readers take one or
the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from inference_contract.values import MAX_NODES

_MAX_DEPTH = 100
"""Enough for a value of `values.MAX_DEPTH` in a document."""


@dataclass
class _Collection:
    is_mapping: bool
    anchor: str | None
    size: int = 1
    """Values in it, aliases expanded."""
    key: str | None = None
    """In a mapping: the key whose value comes next."""
    keys: set[str] = field(default_factory=set)


class Wrong(ValueError):
    """The message names the field."""


def check(events: Iterable[Any]) -> None:
    """
    Args:
        events: from `yaml.parse`; reading stops at the first error.

    Raises:
        Wrong
    """
    sizes: dict[str, int] = {}
    open_: list[_Collection] = []
    for event in events:
        kind = type(event).__name__
        if kind in ("SequenceStartEvent", "MappingStartEvent"):
            if len(open_) == _MAX_DEPTH:
                raise Wrong(f"{_where(open_)} is nested more than {_MAX_DEPTH} deep")
            open_.append(_Collection(kind == "MappingStartEvent", event.anchor))
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            done = open_.pop()
            if done.anchor is not None:
                sizes[done.anchor] = done.size
            _add(open_, done.size, None)
        elif kind == "AliasEvent":
            if event.anchor not in sizes:
                raise Wrong(f"{_where(open_)} has *{event.anchor}, which is not complete there")
            _add(open_, sizes[event.anchor], None)
        elif kind == "ScalarEvent":
            if event.anchor is not None:
                sizes[event.anchor] = 1
            _add(open_, 1, event.value)


def _add(open_: list[_Collection], size: int, text: str | None) -> None:
    """Add a complete value or a key."""
    if not open_:
        return
    around = open_[-1]
    around.size += size
    if around.size > MAX_NODES:
        raise Wrong(f"{_where(open_)} has more than {MAX_NODES} values")
    if not around.is_mapping:
        return
    if around.key is not None:
        around.key = None
        return
    around.key = text if text is not None else ""
    if text is not None and text in around.keys:
        raise Wrong(f"{_where(open_)} is there twice")
    around.keys.add(around.key)


def _where(open_: list[_Collection]) -> str:
    """The path, as `spec.inputSchema`, shortened."""
    path = ".".join(around.key for around in open_[:8] if around.key)
    return path[:200] or "the document"
