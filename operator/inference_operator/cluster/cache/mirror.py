"""The informer cache: models, Deployments, runner pods and namespaces as the API server has them.

Watch events bring changes at once. Lists correct them: kopf does not report objects that were
deleted while a watch was broken.
"""

from __future__ import annotations

import json
import logging
import reprlib
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from inference_contract import owners, values
from inference_contract.pods import LABEL_MODEL
from inference_contract.queues import model_key
from inference_operator.cluster.api.client import Page
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.cache.versioned_objects import (
    Found,
    Name,
    VersionedObjects,
    name_of,
)
from inference_operator.cluster.manifests.closed import NAME as CLOSED
from inference_operator.cluster.pods import runner_pod
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.cluster.rollout.rollout import REVISION

log = logging.getLogger(__name__)

LISTED = {Kind.MODEL: "", Kind.DEPLOYMENT: LABEL_MODEL, Kind.POD: LABEL_MODEL}
"""The kinds to list in a namespace before the operator acts there, each with its label selector."""

_PROBLEM = {"Progressing": "False", "ReplicaFailure": "True"}
"""The conditions of a Deployment that the operator reads, with the status that means a problem."""


def _packed(found: Found) -> bytes:
    """Compressed JSON: parsed objects would take ten times the memory."""
    metadata = {key: v for key, v in found["metadata"].items() if key != "managedFields"}
    return json.dumps({**found, "metadata": metadata}, separators=(",", ":")).encode()


def _packed_deployment(found: Found) -> bytes:
    """Without status fields that change with every step of a pod, or are of an earlier version."""
    passing = {"generation", "resourceVersion"}
    metadata = {key: v for key, v in found["metadata"].items() if key not in passing}
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != REVISION}
    status = found.get("status", {})
    if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        status = {}
    conditions = [
        {key: condition.get(key, "") for key in ("type", "status", "message")}
        for condition in status.get("conditions", ())
        if condition["status"] == _PROBLEM.get(condition["type"])
    ]
    metadata["annotations"] = annotations
    return _packed({**found, "metadata": metadata, "status": {"conditions": conditions}})


def _namespace(found: Found) -> owners.Namespace:
    return owners.read(found["metadata"])


def _model(found: Found) -> Key | None:
    """The model of a child, by its label."""
    model = _label(found, LABEL_MODEL)
    return (name_of(found)[0], model) if model else None


def _label(found: Found, name: str) -> str:
    return str((found["metadata"].get("labels") or {}).get(name, ""))


class Mirror:
    """Thread-safe.

    Args:
        scopes: namespaces with models; empty: all.
    """

    def __init__(self, scopes: Collection[str] = ()) -> None:
        self._scopes = scopes
        self._known: set[tuple[Kind, str]] = set()
        """Kinds and namespaces (empty: all) that were listed at least once."""
        self._lock = threading.Lock()
        self._models = VersionedObjects(_packed, lambda found: name_of(found)[0])
        self._deployments = VersionedObjects(_packed_deployment, _model)
        self._pods = VersionedObjects(runner_pod.parse, _model)
        self._namespaces = VersionedObjects(
            _namespace, lambda found: _namespace(found).owner or None
        )
        self._objects: Mapping[Kind, VersionedObjects[Any]] = {
            Kind.MODEL: self._models,
            Kind.DEPLOYMENT: self._deployments,
            Kind.POD: self._pods,
            Kind.NAMESPACE: self._namespaces,
        }

    def put(self, kind: Kind, found: Found) -> set[Key]:
        """Store an object from a watch or a response.

        Returns:
            The models that it changes something for; none if a newer version is known.
        """
        name = name_of(found)
        with self._lock:
            before = self._concerned(kind, name)
            is_news = self._objects[kind].put(found)
            return before | self._concerned(kind, name) if is_news else set()

    def delete(self, kind: Kind, found: Found) -> set[Key]:
        with self._lock:
            concerned = self._concerned(kind, name_of(found))
            self._objects[kind].delete(found)
            return concerned

    def replace(self, kind: Kind, scope: str, pages: Iterable[Page]) -> set[Key]:
        """Replace the objects of a namespace (empty: of all) by a list at one resource version."""
        objects = self._objects[kind]
        there: set[Name] = set()
        concerned: set[Key] = set()
        version = "0"
        for items, version in pages:  # noqa: B007 - all pages have the same version
            for item in items:
                try:
                    there.add(name_of(item))
                    concerned |= self.put(kind, item)
                except Exception:  # the other objects must still be stored
                    log.exception("%s: an object cannot be read: %s", kind.name, reprlib.repr(item))
        with self._lock:
            for name in objects.vanished(scope, there, int(version)):
                concerned |= self._concerned(kind, name)
                objects.forget(name)
            self._known.add((kind, scope))
        return concerned

    def is_known(self, namespace: str) -> bool:
        """Whether the namespace was listed: before, an object missing here may still exist."""
        with self._lock:
            return all(
                (kind, "") in self._known or (kind, namespace) in self._known for kind in LISTED
            )

    def is_complete(self) -> bool:
        """Whether all namespaces with models were listed."""
        return all(map(self.is_known, self._scopes or [""]))

    def names(self, kind: Kind) -> set[Name]:
        """Namespace and name of every object of a kind."""
        with self._lock:
            return self._objects[kind].names()

    def model(self, key: Key) -> Manifest | None:
        with self._lock:
            return _unpacked(self._models.get(key))

    def models(self) -> set[Key]:
        return self.names(Kind.MODEL)

    def deployment(self, namespace: str, name: str) -> Manifest | None:
        with self._lock:
            return _unpacked(self._deployments.get((namespace, name)))

    def pods(self, key: Key) -> list[RunnerPod]:
        """The model's pods that have not ended for good, sorted by name."""
        return [pod for pod in self._all_pods(key) if pod.eviction is None]

    def evicted(self, key: Key) -> list[RunnerPod]:
        """The model's evicted pods that Kubernetes still keeps."""
        return [pod for pod in self._all_pods(key) if pod.eviction is not None]

    def model_keys(self) -> set[str]:
        """The keys of all models and of all pods, whose models may be deleted already."""
        with self._lock:
            ids = {f"{self._owner(namespace)}/{name}" for namespace, name in self._models.names()}
            for name in self._pods.names():
                pod, group = self._pods.get(name), self._pods.group_of(name)
                if pod is not None and pod.eviction is None:
                    ids.add(f"{pod.owner}/{cast('Key', group)[1]}")
        return set(map(model_key, ids))

    def served_by(self, found: Found) -> list[Key]:
        """The models that use a supporting child: one, or all of its namespace."""
        namespace, name = name_of(found)
        if name == CLOSED:
            return sorted(key for key in self.models() if key[0] == namespace)
        model = found["metadata"].get("labels", {}).get(LABEL_MODEL, "")
        return [key] if self.model(key := (namespace, model)) else []

    def is_empty(self, namespace: str) -> bool:
        """Whether the namespace has neither models nor pods of models."""
        with self._lock:
            names = {*self._models.names(), *self._pods.names()}
        return all(there != namespace for there, _ in names)

    def keys_of(self, key: str) -> list[Key]:
        """The models with that key in Redis: one, or two for a moment when an owner moves."""
        owner, _, name = key.partition("_")
        with self._lock:
            homes = [namespace for _, namespace in self._namespaces.grouped(owner)]
            return [(home, name) for home in homes if self._models.get((home, name))]

    def pods_of(self, key: str) -> int:
        """How many pods the model of that key in Redis has, those that go among them."""
        return sum(len(self._all_pods(found)) for found in self.keys_of(key))

    def owner(self, namespace: str) -> str:
        """The owner of the namespace; empty if it has none."""
        with self._lock:
            return self._owner(namespace)

    def home(self, owner: str) -> str:
        """The oldest of the owner's namespaces, the only one whose models count; empty: none."""
        with self._lock:
            theirs = [self._namespaces.get(name) for name in self._namespaces.grouped(owner)]
        return owners.home(n for n in theirs if n and (not self._scopes or n.name in self._scopes))

    def _all_pods(self, key: Key) -> list[RunnerPod]:
        with self._lock:
            found = [self._pods.get(name) for name in self._pods.grouped(key)]
        return [pod for pod in found if pod is not None]

    def _owner(self, namespace: str) -> str:
        found = self._namespaces.get(("", namespace))
        return found.owner if found else ""

    def _concerned(self, kind: Kind, name: Name) -> set[Key]:
        """The models to reconcile after a change of the object. A namespace's label decides who
        owns its models, and which of an owner's namespaces counts."""
        if kind is Kind.MODEL:
            return {name}
        group = self._objects[kind].group_of(name)
        if kind is Kind.NAMESPACE:
            rivals = self._namespaces.grouped(group) if group else []
            return {key for _, there in {name, *rivals} for key in self._models.grouped(there)}
        return {cast("Key", group)} if group else set()


def _unpacked(content: bytes | None) -> Manifest | None:
    return cast("Manifest", values.parse(content)) if content else None
