"""The pods that a model has had, as the ReplicaSets of its Deployment still know them."""

from __future__ import annotations

from inference_contract.pods import LABEL_HASH, LABEL_MODEL
from inference_operator.cluster import Cluster
from inference_operator.kinds import Kind
from inference_operator.manifests.child import Manifest
from inference_operator.resources import Resource
from inference_operator.rollout import template_of
from inference_operator.work_queue import Key


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
