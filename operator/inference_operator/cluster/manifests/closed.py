"""What holds for every runner of a namespace, whatever becomes of its own policy: none in or out.

Policies add up, so a model's own one opens what that model needs. Without this one a pod would be
open to all while its own is missing.
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
