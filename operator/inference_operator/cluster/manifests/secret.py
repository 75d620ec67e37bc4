"""The Secret of a model's runners: values that must not appear in the pod."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from inference_contract.pods import RunnerEnv
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import Parent, manifest


def secret(parent: Parent, labels: Mapping[str, str], redis_url: str) -> Manifest:
    data = {RunnerEnv.REDIS_URL.value: base64.b64encode(redis_url.encode()).decode()}
    return manifest("v1", "Secret", parent, labels, {"type": "Opaque", "data": data})
