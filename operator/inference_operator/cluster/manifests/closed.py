"""The NetworkPolicy for all runners of a namespace: no traffic in or out.

Policies add up, so a model's own policy allows what that model needs. Without this one, a pod whose
own policy is missing could reach everything.
"""

from __future__ import annotations

from inference_contract.pods import LABEL_MODEL
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import APP, stamped

NAME = "inference-runners"


def closed(namespace: str) -> Manifest:
    is_runner = {"matchExpressions": [{"key": LABEL_MODEL, "operator": "Exists"}]}
    return stamped(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": NAME, "namespace": namespace, "labels": dict(APP)},
            "spec": {"podSelector": is_runner, "policyTypes": ["Ingress", "Egress"]},
        }
    )
