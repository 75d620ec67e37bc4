"""Thin kopf glue: whatever happens to a model or its children puts the model on the work queue."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_MODEL
from inference_operator.work_queue import Key


def register(put: Callable[[Key], None]) -> kopf.OperatorRegistry:
    """Handlers that write nothing: no finalizers, no annotations, no results."""
    registry = kopf.OperatorRegistry()
    is_child = {LABEL_MODEL: kopf.PRESENT}
    models: defaultdict[str, set[str]] = defaultdict(set)

    @kopf.on.login(registry=registry)
    async def login(**cogs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**cogs) or kopf.login_with_kubeconfig(**cogs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def model_changed(namespace: str | None, name: str, type: str, **_: Any) -> None:
        assert namespace is not None
        if type == "DELETED":
            models[namespace].discard(name)
        else:
            models[namespace].add(name)
        put((namespace, name))

    @kopf.on.event("apps", "v1", "deployments", registry=registry, labels=is_child)
    @kopf.on.event("", "v1", "pods", registry=registry, labels=is_child)
    async def child_changed(namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        assert namespace is not None
        if labels[LABEL_MODEL] in models.get(namespace, ()):
            put((namespace, labels[LABEL_MODEL]))

    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def owner_may_have_changed(name: str, type: str | None, **_: Any) -> None:
        if type is not None:  # At the start every namespace is listed, and every model too.
            for model in models.get(name, ()):
                put((name, model))

    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Watches that cannot stall in silence, and nothing of kopf's own in the cluster."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    for resource in ("deployments", "pods"):
        settings.watching.label_selectors[resource] = LABEL_MODEL
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return settings
