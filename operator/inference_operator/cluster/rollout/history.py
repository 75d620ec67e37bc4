"""Earlier pod templates of a model, from the ReplicaSets of its Deployment."""

from __future__ import annotations

from inference_contract.pods import LABEL_HASH, LABEL_MODEL
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.resource import Resource
from inference_operator.cluster.rollout.rollout import template_of


class History:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._templates: dict[Key, tuple[str, Manifest]] = {}
        """Hash and template of the version that a rollback returned to."""

    def template(self, resource: Resource, deployment: Manifest, hash: str) -> Manifest | None:
        """The pod template with that hash; None if the history no longer has it."""
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
