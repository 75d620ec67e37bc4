"""The pods that a model has had, as the ReplicaSets of its Deployment still know them."""

from __future__ import annotations

from inference_contract.pods import LABEL_HASH, LABEL_MODEL
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.resource import Resource
from inference_operator.cluster.rollout.rollout import template_of


class Versions:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._templates: dict[Key, tuple[str, Manifest]] = {}
        """The one that a change was taken back to, and its hash."""

    def template(self, resource: Resource, deployment: Manifest, hash: str) -> Manifest | None:
        """The pod template of that version; None if the history no longer has it."""
        known, template = self._templates.get(resource.key, ("", None))
        if known == hash:
            return template
        labels = f"{LABEL_MODEL}={resource.parent.name},{LABEL_HASH}={hash}"
        pages = self._cluster.pages(Kind.REPLICA_SET, resource.parent.namespace, labels)
        found = [item for items, _ in pages for item in items]
        template = template_of(found, deployment["metadata"]["uid"])
        if template is not None:
            self._templates[resource.key] = hash, template
        return template

    def forget(self, key: Key) -> None:
        self._templates.pop(key, None)
