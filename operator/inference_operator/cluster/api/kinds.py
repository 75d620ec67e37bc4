"""The kinds of objects that the operator reads or writes, and their paths in the API."""

from __future__ import annotations

from enum import Enum
from urllib.parse import quote

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION


class Kind(Enum):
    MODEL = (f"apis/{GROUP}/{VERSION}", PLURAL)
    DEPLOYMENT = ("apis/apps/v1", "deployments")
    REPLICA_SET = ("apis/apps/v1", "replicasets")
    NETWORK_POLICY = ("apis/networking.k8s.io/v1", "networkpolicies")
    SERVICE_ACCOUNT = ("api/v1", "serviceaccounts")
    SECRET = ("api/v1", "secrets")
    CLAIM = ("api/v1", "persistentvolumeclaims")
    POD = ("api/v1", "pods")
    EVENT = ("api/v1", "events")
    LEASE = ("apis/coordination.k8s.io/v1", "leases")
    NAMESPACE = ("api/v1", "namespaces")

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """The path of an object or a collection. Without a namespace: of all namespaces, or of a
        cluster-scoped object."""
        api, plural = self.value
        scope = ["namespaces", quote(namespace)] if namespace else []
        return "/".join(["", api, *scope, plural, quote(name), part]).rstrip("/")
