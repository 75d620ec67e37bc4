"""The Deployment of a model's runners.

`replicas` is not part of it, as it changes independently: see `with_replicas`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import Parent, manifest
from inference_operator.plan import RunnerPlan

_PULL_SECONDS = 600
"""For scheduling and for pulling an image of several GiB."""


def deployment(
    parent: Parent,
    plan: RunnerPlan,
    template: Mapping[str, Any],
    *,
    max_surge: int,
) -> Manifest:
    """The manifest to apply.

    Args:
        max_surge: pods beyond the wanted number during an update. 0: an old pod ends before a new
            one starts, for machines without a spare GPU.
    """
    spec = {
        "selector": {"matchLabels": parent.selector},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": max_surge, "maxUnavailable": 0 if max_surge else 1},
        },
        "progressDeadlineSeconds": int(plan.grace_seconds + plan.load_seconds) + _PULL_SECONDS,
        "revisionHistoryLimit": 2,
        "template": template,
    }
    return manifest("apps/v1", "Deployment", parent, plan.labels, {"spec": spec})


def with_replicas(made: Manifest, replicas: int) -> Manifest:
    """The manifest to send. Without a number the API server would set one replica, at creation and,
    until the Deployment is scaled by others, at each apply."""
    return {**made, "spec": {**made["spec"], "replicas": replicas}}
