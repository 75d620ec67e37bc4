"""The newest known version of each object of one kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
Found = Mapping[str, Any]
"""An object as the API server returned it."""
Name = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name of an object."""


class _Known(NamedTuple, Generic[T]):
    version: int
    content: T
    group: Hashable


class VersionedObjects(Generic[T]):
    """An old list or a late event never replaces a newer object: resource versions are compared, as
    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions allows.

    Args:
        keep: returns the part of an object to store.
        group: returns the group that an object is indexed by; None: not indexed.
    """

    def __init__(self, keep: Callable[[Found], T], group: Callable[[Found], Hashable]) -> None:
        self._keep = keep
        self._group = group
        self._known: dict[Name, _Known[T]] = {}
        self._gone: dict[Name, int] = {}
        """Resource version of each deletion, until a newer list."""
        self._groups: dict[Hashable, set[Name]] = {}

    def get(self, name: Name) -> T | None:
        known = self._known.get(name)
        return known.content if known else None

    def names(self) -> set[Name]:
        return set(self._known)

    def grouped(self, group: Hashable) -> list[Name]:
        """The names in a group, sorted."""
        return sorted(self._groups.get(group, ()))

    def group_of(self, name: Name) -> Hashable:
        known = self._known.get(name)
        return known.group if known else None

    def put(self, found: Found) -> bool:
        """Whether the object is newer, and its stored part differs."""
        name, version = name_of(found), _version(found)
        known = self._known.get(name)
        if version <= max(known.version if known else 0, self._gone.get(name, 0)):
            return False
        now = _Known(version, self._keep(found), self._group(found))
        if known is not None and known.group == now.group:
            self._known[name] = now
            return known.content != now.content
        self.forget(name)
        self._known[name] = now
        if now.group is not None:
            self._groups.setdefault(now.group, set()).add(name)
        return True

    def delete(self, found: Found) -> None:
        name, version = name_of(found), _version(found)
        known = self._known.get(name)
        if known is None or known.version <= version:
            self.forget(name)
            self._gone[name] = version

    def vanished(self, scope: str, there: Collection[Name], version: int) -> list[Name]:
        """The objects of a namespace (empty: of all) that a list of that version lacks."""
        self._gone = {name: at for name, at in self._gone.items() if at > version}
        return [
            name
            for name, known in self._known.items()
            if name not in there and known.version <= version and scope in ("", name[0])
        ]

    def forget(self, name: Name) -> None:
        known = self._known.pop(name, None)
        if known is None or known.group is None:
            return
        names = self._groups[known.group]
        names.discard(name)
        if not names:
            del self._groups[known.group]


def name_of(found: Found) -> Name:
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(found: Found) -> int:
    return int(found["metadata"]["resourceVersion"])
