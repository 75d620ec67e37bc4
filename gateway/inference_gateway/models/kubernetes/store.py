"""InferenceModels as custom resources of a Kubernetes cluster.

Needed rights: list, watch, create, patch, delete of `inferencemodels`; list and watch of
`namespaces`, and create and get of them unless CREATE_OWNER_NAMESPACES is off.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from prometheus_client import Gauge

from inference_contract.inferencemodel import API_VERSION, PLURAL, InferenceModel
from inference_contract.pods import LABEL_OWNER, LABEL_OWNER_ID
from inference_gateway.background import set_aside
from inference_gateway.health_state import Dependency, HealthState
from inference_gateway.models.kubernetes import api, namespaces
from inference_gateway.models.kubernetes import documents as resources
from inference_gateway.models.kubernetes.api import (
    KubernetesApi,
    KubernetesError,
    KubernetesRefused,
)
from inference_gateway.models.kubernetes.cache import KubernetesWatch
from inference_gateway.models.kubernetes.documents import Entry, Homes
from inference_gateway.models.kubernetes.errors import store_error
from inference_gateway.models.kubernetes.namespaces import OwnerNamespaces
from inference_gateway.models.store import (
    InvalidDocument,
    ModelMissing,
    NamespaceRefused,
    StoreUnavailable,
)
from inference_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_MOST_NAMED = 5
"""Namespaces in one message."""
_STOP_SECONDS = 2.0
_START_SECONDS = 2.0
"""How long the start waits for the first list; after that it continues, not ready."""


def open_store(settings: GatewaySettings) -> KubernetesModelStore:
    """The store; it does not connect yet.

    Raises:
        KubernetesError: if no cluster is configured, or the configuration is invalid.
    """
    return KubernetesModelStore(KubernetesApi(api.configuration(settings.kubeconfig)), settings)


REFUSED = Gauge(
    "inference_refused_namespaces",
    "1 for each namespace whose models cannot be read; the last known state is used.",
    ["name"],
)


class _Known(NamedTuple):
    uid: str
    version: str
    owner: str
    entry: Entry


class KubernetesModelStore:
    """An owner has a namespace with the label `inference-server.dev/owner`; a namespace that the
    gateway creates also has the account's id. Of two namespaces with the same owner the older one
    counts; models of the other are listed as an InvalidDocument that says so, unless the older has
    a model of that name.

    `list` reads a watch cache and does not block. Writes go to the API server, and its responses
    into the cache. They change only the spec: the status is the operator's, labels and annotations
    belong to users of kubectl.
    """

    def __init__(self, api: KubernetesApi, settings: GatewaySettings) -> None:
        self._api = api
        scopes = settings.watched_namespaces
        self._owners = OwnerNamespaces(
            self._api,
            settings.owner_namespace_prefix,
            pod_security=settings.owner_namespace_pod_security,
            quota=settings.owner_namespace_quota,
            largest_claim=settings.owner_namespace_largest_claim,
            may_create=settings.create_owner_namespaces,
            watched=frozenset(scopes),
        )
        self._namespaces = [self._watch_namespaces(scope) for scope in scopes or [""]]
        self._models = {
            scope: KubernetesWatch(self._api, _collection(scope), {}) for scope in scopes or [""]
        }
        for scope, watcher in self._models.items():
            REFUSED.labels(scope or "*").set_function(partial(_may_not_be_read, watcher))
        self._lock = threading.Lock()
        self._stamp: list[int] = []
        self._homes = Homes({}, {})
        self._last_homes: dict[str, str] = {}
        """Owner → last known namespace."""
        self._known: dict[tuple[str, str], _Known] = {}
        self._listed: dict[str, Entry] = {}
        self._is_ready = False

    def start(self) -> None:
        for watcher in self._watchers:
            watcher.start()
        end = time.monotonic() + _START_SECONDS
        while not self._is_usable and time.monotonic() < end:
            time.sleep(0.02)

    def stop(self) -> None:
        """Closes the API too, which ends the watches."""
        for watcher in self._watchers:
            watcher.stop()
        self._api.close()
        for watcher in self._watchers:
            if not watcher.join(_STOP_SECONDS):
                log.warning("a watch has not ended within %.0f s", _STOP_SECONDS)

    def dependencies(self) -> dict[str, Dependency]:
        """Unavailable until the models were read once; from then on predictions can be served."""
        problem = next((w.problem for w in self._watchers if w.problem is not None), None)
        if not self._is_ready:
            message = _problem(problem) if problem else "the models have not been read yet"
            return {"kubernetes": Dependency(HealthState.UNAVAILABLE, message)}
        if problem is not None:
            message = f"{_problem(problem)}: the models{self._of_whom()} are as they were last seen"
            return {"kubernetes": Dependency(HealthState.DEGRADED, message)}
        return {"kubernetes": Dependency(HealthState.OK, "answers")}

    def list(self) -> dict[str, Entry]:
        with self._lock:
            if not self._is_usable:
                return {}
            stamp = [watcher.cache.changes for watcher in self._watchers]
            if stamp != self._stamp:
                self._homes = resources.homes(
                    found for watcher in self._namespaces for found in watcher.cache.all()
                )
                self._last_homes.update(self._homes.of)
                self._listed = self._read()
                self._stamp = stamp
            self._is_ready = True
            return self._listed

    def owner_ids(self) -> Mapping[str, str]:
        return self._homes.ids

    def has_place(self, owner: str) -> bool:
        query = {"labelSelector": f"{LABEL_OWNER}={owner}"}
        scopes = [""] if "" in self._models else list(self._models)
        fields = [{"fieldSelector": f"metadata.name={scope}"} if scope else {} for scope in scopes]
        try:
            found = [n for f in fields for n in self._api.list_all(namespaces.PATH, query | f)[0]]
            return any(
                LABEL_OWNER_ID in metadata["labels"]
                or self._api.list_all(_collection(metadata["name"]), {})[0]
                for metadata in (namespace["metadata"] for namespace in found)
            )
        except KubernetesError as error:
            log.warning("whether %s has a namespace is not known: %s", owner, error)
            raise StoreUnavailable("Kubernetes does not answer: try again") from error

    def create(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        """Create it in the owner's namespace, which is created if it is missing.

        Raises:
            ModelExists, ModelRefused, NamespaceRefused, StoreUnavailable
        """
        namespace = self._home(model.owner, owner_id) or self._make_home(model.owner, owner_id)
        try:
            made = self._api.create(_collection(namespace), resources.manifest(model, namespace))
        except KubernetesError as error:
            raise store_error(error, model.id) from error
        return self._written(model.id, namespace, made)

    def replace(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        """Replace the whole spec by a JSON Patch: it neither conflicts with concurrent writes, such
        as of the status, nor overwrites them."""
        namespace = self._home(model.owner, owner_id)
        if namespace is None:
            raise ModelMissing(model.id)
        operation = {"op": "replace", "path": "/spec", "value": resources.manifest_spec(model)}
        try:
            made = self._api.patch(f"{_collection(namespace)}/{model.metadata.name}", [operation])
        except KubernetesError as error:
            raise store_error(error, model.id) from error
        return self._written(model.id, namespace, made)

    def delete(self, model_id: str) -> None:
        owner, _, name = model_id.partition("/")
        namespace = self._home(owner)
        if namespace is None:
            raise ModelMissing(model_id)
        try:
            self._api.delete(f"{_collection(namespace)}/{name}")
        except KubernetesError as error:
            raise store_error(error, model_id) from error
        self._watcher(namespace).cache.delete(namespace, name)

    def is_gone(self, model_id: str) -> bool:
        """Reads from the API server, as a watch may lag unnoticed; in all namespaces, as their
        owners may have changed too."""
        owner, _, name = model_id.partition("/")
        if not self._is_synced or any(watcher.problem for watcher in self._watchers):
            return False
        self.list()
        if self._may_hold(owner, name, (f for w in self._models.values() for f in w.cache.all())):
            return False
        query = {"fieldSelector": f"metadata.name={name}"}
        try:
            found = [self._api.list_all(_collection(scope), query)[0] for scope in self._models]
        except KubernetesError as error:
            log.warning("whether model %s is gone is not known: %s", model_id, error)
            return False
        return not self._may_hold(owner, name, itertools.chain(*found))

    def _may_hold(self, owner: str, name: str, models: Iterable[dict[str, Any]]) -> bool:
        found = (m["metadata"] for m in models)
        holding = {
            metadata.get("namespace", "")
            for metadata in found
            if metadata["name"] == name and "deletionTimestamp" not in metadata
        }
        return resources.may_hold(
            owner,
            holding,
            self._homes,
            self._last_homes.get(owner),
            sees_all="" in self._models,
        )

    @property
    def _watchers(self) -> tuple[KubernetesWatch, ...]:
        return (*self._namespaces, *self._models.values())

    def _of_whom(self) -> str:
        """The namespaces whose models may be outdated, for messages; empty for all."""
        found = [scope for scope, watcher in self._models.items() if watcher.problem]
        if len(found) in (0, len(self._models)):
            return ""
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        return f" of namespace {', '.join(found[:_MOST_NAMED])}{more}"

    @property
    def _is_synced(self) -> bool:
        return all(watcher.is_synced for watcher in self._watchers)

    @property
    def _is_usable(self) -> bool:
        """Whether owners and models were read; namespaces that the API server forbids to read do
        not count."""
        models = self._models.values()
        return (
            all(watcher.is_synced for watcher in self._namespaces)
            and any(watcher.is_synced for watcher in models)
            and all(watcher.is_synced or _may_not_be_read(watcher) for watcher in models)
        )

    def _watch_namespaces(self, name: str) -> KubernetesWatch:
        query = {"labelSelector": LABEL_OWNER}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        return KubernetesWatch(self._api, namespaces.PATH, query)

    def _watcher(self, namespace: str) -> KubernetesWatch:
        return self._models.get(namespace) or self._models[""]

    def _home(self, owner: str, owner_id: str | None = None) -> str | None:
        """The owner's namespace. Raises StoreUnavailable until the namespaces were read,
        NamespaceRefused if it belongs to another account."""
        if not self._is_usable:
            raise StoreUnavailable("Kubernetes has not answered yet: try again")
        self.list()
        home = self._homes.of.get(owner)
        if home is not None and owner_id not in (None, self._homes.ids.get(owner, owner_id)):
            raise NamespaceRefused(
                f"namespace {home} belongs to another account, which had the name {owner}: an "
                f"administrator may {namespaces.hand_over(home)}"
            )
        return home

    def _make_home(self, owner: str, owner_id: str | None) -> str:
        made = self._owners.make(owner, owner_id)
        name: str = made["metadata"]["name"]
        watcher = self._namespaces[0]
        if "" not in self._models:
            watcher = self._namespaces[list(self._models).index(name)]
        watcher.cache.put(made)
        return name

    def _written(self, model_id: str, namespace: str, made: dict[str, Any]) -> InferenceModel:
        self._watcher(namespace).cache.put(made)
        found = self.list().get(model_id)
        if not isinstance(found, InferenceModel):
            raise StoreUnavailable(f"model {model_id} is being deleted: try again when it is gone")
        return found

    def _read(self) -> dict[str, Entry]:
        """All entries, sorted by id; only changed objects are parsed again."""
        owner_of = {namespace: owner for owner, namespace in self._homes.of.items()}
        known: dict[tuple[str, str], _Known] = {}
        rivals: dict[str, Entry] = {}
        for found in (found for w in self._models.values() for found in w.cache.all()):
            metadata = found["metadata"]
            namespace, name = metadata.get("namespace", ""), metadata["name"]
            if "deletionTimestamp" in metadata:
                continue
            if (owner := owner_of.get(namespace)) is not None:
                known[namespace, name] = self._look(found, owner)
            elif (owner := self._homes.rivals.get(namespace)) is not None:
                rivals[f"{owner}/{name}"] = resources.rival(found, owner, self._homes.of[owner])
        self._known = known
        own = {f"{k.owner}/{name}": k.entry for (_, name), k in known.items()}
        return dict(sorted({**rivals, **own}.items()))

    def _look(self, found: Mapping[str, Any], owner: str) -> _Known:
        metadata = found["metadata"]
        uid, version = metadata["uid"], metadata["resourceVersion"]
        before = self._known.get((metadata["namespace"], metadata["name"]))
        if before is not None and (before.uid, before.owner) != (uid, owner):
            before = None
        if before is not None and before.version == version:
            return before
        try:
            entry = resources.entry(found, owner, before.entry if before else None)
        except Exception as error:  # the other models must still be listed
            model_id = f"{owner}/{metadata['name']}"
            set_aside.ITEMS.labels("models").inc()
            log.exception("a resource cannot be read", extra={"model": model_id})
            entry = InvalidDocument(model_id, f"cannot be read: {type(error).__name__}")
        return _Known(uid, version, owner, entry)


def _collection(namespace: str) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{API_VERSION}{scope}/{PLURAL}"


def _may_not_be_read(watcher: KubernetesWatch) -> bool:
    return isinstance(watcher.problem, KubernetesRefused) and watcher.problem.status < 500


def _problem(error: KubernetesError) -> str:
    """A message for callers: without hosts and accounts, which the log has."""
    if not isinstance(error, KubernetesRefused):
        return "Kubernetes does not answer"
    if error.status == 404:
        return "the cluster knows no InferenceModels: install the CustomResourceDefinition"
    if error.status in (401, 403):
        return f"Kubernetes refuses this gateway ({error.status}): see its log"
    return f"Kubernetes answers {error.status}"
