"""What the API server needs for the children alone: the operator's manifests, written in a loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from narrow import there

import kwok
from fleet_watch import Key
from inference_operator.cluster.api.client import connect
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.manifests.build import children
from inference_operator.cluster.manifests.deployment import with_replicas
from inference_operator.cluster.resource import parse
from inference_operator.cluster.settings import ClusterSettings

_REDIS_URL = "redis://redis.invalid:6379"


def seconds(keys: Sequence[Key]) -> float:
    """Until the children of all models are written, one pod each; by as many threads as an
    operator has. Nothing is read, compared, watched or reported."""
    settings = ClusterSettings(
        redis_url=_REDIS_URL, runner_image="simulated", hardware_profiles={"cpu": kwok.PROFILE}
    )
    cluster = connect(settings.operator_workers)
    models = [cluster.get(Kind.MODEL, *key) for key in keys]

    def make(key: Key, model: Manifest | None) -> None:
        resource = parse(there(model), owner=key[0], home=key[0])
        desired = children(resource, settings, _REDIS_URL)
        for kind, manifest in desired.supporting.items():
            cluster.apply(kind, manifest)
        cluster.apply(Kind.DEPLOYMENT, with_replicas(desired.deployment, 1))

    start = time.monotonic()
    with ThreadPoolExecutor(settings.operator_workers) as pool:
        list(pool.map(make, keys, models))
    return time.monotonic() - start
