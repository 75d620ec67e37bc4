"""The Deployment of a model's runners.

`replicas` is not in it, for that changes without the rest: see `with_replicas`.
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
        max_surge: pods beyond the wanted number during an update; 0: an old one ends its work
            before a new one starts, for there is no spare GPU.
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
    """What is sent: without a number the API server would take one, now or, as long as nobody else
    has scaled it, when it is applied again."""
    return {**made, "spec": {**made["spec"], "replicas": replicas}}
