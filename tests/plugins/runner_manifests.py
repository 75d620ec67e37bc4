"""The manifests that the operator applies for a model, for tests of their fields."""

from __future__ import annotations

from typing import Any

from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import ANNOTATION_APPLIED
from inference_operator.cluster.manifests.build import Children, children
from inference_operator.cluster.resource import parse
from inference_operator.cluster.settings import ClusterSettings

LABELS = {
    "app.kubernetes.io/name": "inference-runner",
    "app.kubernetes.io/managed-by": "inference",
    "inference-server.dev/owner": "alice",
    "inference-server.dev/model": "m",
}
OWNERS = [
    {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "name": "m",
        "uid": "uid-1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
]
HTTP = {"port": 8001, "scheme": "HTTP"}


def children_for(settings: dict[str, Any] | None = None, **spec: Any) -> Children:
    found = {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m", "namespace": "team-a", "uid": "uid-1"},
        "spec": {"type": "text-generation", "source": {"path": "/models/m"}, **spec},
    }
    resource = parse(found, owner="alice", home="team-a")
    values = {"runner_image": "runner:1", "redis_url": "redis://redis:6380/1"}
    given = ClusterSettings(**{**values, **(settings or {})})
    return children(resource, given, given.redis_url)


def pod_for(settings: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    pod: Manifest = children_for(settings, **spec).deployment["spec"]["template"]["spec"]
    return pod


def container_for(settings: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    container: Manifest = pod_for(settings, **spec)["containers"][0]
    return container


def env_for(settings: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    entries = container_for(settings, **spec)["env"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def plain(manifest: Manifest) -> Manifest:
    """The manifest without the fingerprint, whose value is not tested."""
    metadata = dict(manifest["metadata"])
    assert list(metadata.pop("annotations")) == [ANNOTATION_APPLIED]
    return {**manifest, "metadata": metadata}


METADATA = {
    "name": "m-runner",
    "namespace": "team-a",
    "labels": LABELS,
    "ownerReferences": OWNERS,
}
