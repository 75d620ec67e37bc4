"""Kubernetes objects in memory, kept current by list and watch on a thread."""

from __future__ import annotations

import logging
import random
import reprlib
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inference_contract import backoff
from inference_gateway.background import set_aside
from inference_gateway.models.kubernetes.api import KubernetesError, KubernetesRefused

if TYPE_CHECKING:
    from inference_gateway.models.kubernetes.api import KubernetesApi, Object

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 15.0
_WORKED_SECONDS = 5.0
"""A watch that lasted this long did not fail: the next one starts at once."""


class ObjectCache:
    """Objects of one kind. Replies to writes and watch events may come in any order: the newer
    resourceVersion wins (these are increasing decimal numbers: KEP-5504)."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._deleted: set[str] = set()
        """Uids of deleted objects that late watch events may still contain."""
        self._lock = threading.Lock()
        self.changes = 0
        """Grows with every change."""

    def all(self) -> list[Object]:
        with self._lock:
            return list(self._objects.values())

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def put(self, found: Object) -> None:
        if _is_object(found):
            with self._lock:
                self._put(found)

    def delete(self, namespace: str, name: str) -> None:
        """Remove an object at once; late watch events do not bring it back."""
        with self._lock:
            before = self._objects.pop((namespace, name), None)
            if before is not None:
                self._deleted.add(before["metadata"]["uid"])
                self.changes += 1

    def apply(self, event: Object) -> None:
        found: Object = event["object"]
        if event["type"] == "BOOKMARK" or not _is_object(found):
            return
        with self._lock:
            if event["type"] == "DELETED":
                self._deleted.discard(found["metadata"]["uid"])
                before = self._objects.get(_key(found))
                if before is not None and not _is_newer(before, found):
                    del self._objects[_key(found)]
                    self.changes += 1
            elif event["type"] in ("ADDED", "MODIFIED"):
                self._put(found)

    def replace(self, items: list[Object], version: str) -> None:
        """Replace all objects by a list at that version; newer objects stay."""
        items = [item for item in items if _is_object(item)]
        with self._lock:
            listed = {_key(item) for item in items}
            later = {"metadata": {"resourceVersion": version}}
            for key, before in list(self._objects.items()):
                if key not in listed and not _is_newer(before, later):
                    del self._objects[key]
                    self.changes += 1
            self._deleted &= {item["metadata"]["uid"] for item in items}
            for item in items:
                self._put(item)

    def _put(self, found: Object) -> None:
        metadata = found["metadata"]
        before = self._objects.get(_key(found))
        if metadata["uid"] in self._deleted or (
            before is not None and not _is_newer(found, before)
        ):
            return
        # The largest part of an object, and not needed.
        metadata.pop("managedFields", None)
        self._objects[_key(found)] = found
        self.changes += 1


def _is_object(found: Any) -> bool:
    """Whether it has the fields of every object. An invalid item must not end the watch."""
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if isinstance(metadata, dict):
        said = [metadata.get(key) for key in ("name", "uid", "resourceVersion")]
        if all(isinstance(part, str) for part in (*said, metadata.get("namespace", ""))):
            return True
    set_aside.ITEMS.labels("watch").inc()
    log.warning("the API server sent what is no object: %s", reprlib.repr(found))
    return False


def _key(found: Object) -> Key:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def _is_newer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first: str = one["metadata"]["resourceVersion"]
    second: str = other["metadata"]["resourceVersion"]
    return (len(first), first) > (len(second), second)


def _version(event: Object) -> str | None:
    """The resource version of an event; None if it has none."""
    found = event["object"]
    metadata = found.get("metadata") if isinstance(found, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else None


class KubernetesWatch:
    """Keeps `cache` current, through lost connections and restarts of the API server.

    Args:
        version: the resourceVersion to watch from; None: list first.
    """

    def __init__(
        self,
        api: KubernetesApi,
        path: str,
        query: Mapping[str, str],
        version: str | None = None,
    ) -> None:
        self.cache = ObjectCache()
        self.is_synced = False
        """Whether the cache was complete at least once."""
        self.problem: KubernetesError | None = None
        """Why the cache may be outdated; None if it is current."""
        self._api = api
        self._path = path
        self._query = query
        self._version = version
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Its thread ends as soon as the API is closed."""
        self._stopped.set()

    def join(self, timeout: float) -> bool:
        """Whether its thread ends within so many seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        tries = 0
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._follow()
            except Exception as error:
                self._failed(error)
            tries = 1 if time.monotonic() - began > _WORKED_SECONDS else tries + 1
            pause = backoff.pause(tries, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))

    def _follow(self) -> None:
        """One watch, from its start to its end."""
        version = self._version
        if version is None:
            items, version = self._api.list_all(self._path, self._query)
            self.cache.replace(items, version)
            self._version = version
            self.is_synced = True
            self.problem = None
        with self._api.watch(self._path, self._query, version) as events:
            self.problem = None
            for event in events:
                self.cache.apply(event)
                self._version = _version(event) or self._version

    def _failed(self, error: Exception) -> None:
        if self._stopped.is_set():
            return
        if not isinstance(error, KubernetesError):
            log.exception("watching %s", self._path)
            self._version = None
        elif isinstance(error, KubernetesRefused) and error.is_gone:
            log.info("%s: too much has changed since, listing anew", self._path)
            self._version = None
        else:
            log.warning("watching %s: %s", self._path, error)
            self.problem = error
