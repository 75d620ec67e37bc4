"""Thin kopf glue: events of models, children and namespaces go into the mirror; the keys of the
models that they concern go on the work queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import kopf

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_MODEL
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.children import APP

_KINDS = {
    PLURAL: Kind.MODEL,
    "deployments": Kind.DEPLOYMENT,
    "pods": Kind.POD,
    "namespaces": Kind.NAMESPACE,
}


class _NoDiffs(kopf.DiffBaseStorage):
    """Turns kopf's diffs off. Event handlers do not get them, but kopf computes them from two deep
    copies of each object: a sixth of the cost of a start with thousands of models."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _Forever:
    """Endless pauses between retries, seconds. kopf ends a watch for good when they run out."""

    def __iter__(self) -> Iterator[float]:
        return chain((1, 1, 2, 3, 5, 8, 13), repeat(21))


def register(
    mirror: Mirror, put: Callable[[Key], None], child_changed: Callable[[Key], None]
) -> kopf.OperatorRegistry:
    """Handlers that write nothing: no finalizers, no annotations, no results.

    Args:
        child_changed: called with a model when one of its supporting children has changed.
    """
    registry = kopf.OperatorRegistry()
    is_child = {LABEL_MODEL: kopf.PRESENT}

    @kopf.on.login(registry=registry)
    async def login(**cogs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**cogs) or kopf.login_with_kubeconfig(**cogs)

    @kopf.on.event("", "v1", "serviceaccounts", registry=registry, labels=is_child)
    @kopf.on.event("networking.k8s.io", "v1", "networkpolicies", registry=registry, labels=APP)
    async def touched(type: str | None, event: Mapping[str, Any], **_: Any) -> None:
        """Changes and deletions only: existing children are read when their model is reconciled."""
        if type in ("MODIFIED", "DELETED"):
            for key in mirror.served_by(event["object"]):
                child_changed(key)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    @kopf.on.event("apps", "v1", "deployments", registry=registry, labels=is_child)
    @kopf.on.event("", "v1", "pods", registry=registry, labels=is_child)
    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def changed(
        resource: kopf.Resource, type: str | None, event: Mapping[str, Any], **_: Any
    ) -> None:
        note = mirror.delete if type == "DELETED" else mirror.put
        for key in note(_KINDS[resource.plural], event["object"]):
            put(key)

    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Watches with timeouts; kopf writes nothing of its own into the cluster."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _Forever()
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 70
    # Each watch task keeps its last chunk in memory while it waits: thousands of pods at the start.
    settings.watching.chunk_size = 100
    settings.queueing.idle_timeout = 0.1
    settings.persistence.diffbase_storage = _NoDiffs()
    for resource in ("deployments", "pods", "serviceaccounts"):
        settings.watching.label_selectors[resource] = LABEL_MODEL
    ours = ",".join(f"{label}={value}" for label, value in APP.items())
    settings.watching.label_selectors["networkpolicies"] = ours
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return settings
