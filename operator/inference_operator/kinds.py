"""The kinds of objects that the operator reads or writes, and where the API server has them."""

from __future__ import annotations

from enum import Enum
from urllib.parse import quote

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION


class Kind(Enum):
    MODEL = (f"apis/{GROUP}/{VERSION}", PLURAL)
    DEPLOYMENT = ("apis/apps/v1", "deployments")
    NETWORK_POLICY = ("apis/networking.k8s.io/v1", "networkpolicies")
    SERVICE_ACCOUNT = ("api/v1", "serviceaccounts")
    SECRET = ("api/v1", "secrets")
    CLAIM = ("api/v1", "persistentvolumeclaims")
    POD = ("api/v1", "pods")
    EVENT = ("api/v1", "events")

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        api, plural = self.value
        parts = ["", api, "namespaces", quote(namespace), plural, quote(name), part]
        return "/".join(parts).rstrip("/")
