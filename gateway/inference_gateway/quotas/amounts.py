"""Sums of the resources that models request. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from inference_contract import quantities
from inference_contract.inferencemodel import InferenceModelSpec, Resources

_NO_DEVICES = ("cpu", "memory", "ephemeral-storage", "hugepages-")
_CPU = "cpu"


@dataclass(frozen=True)
class Amounts:
    """The maximum resources of some models together."""

    models: int = 0
    replicas: int = 0
    min_replicas: int = 0
    gpus: int = 0
    cache_bytes: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @classmethod
    def of(cls, spec: InferenceModelSpec) -> Amounts:
        replicas = spec.max_replicas + min(spec.rollout.max_surge, spec.max_replicas)
        size = spec.cache.size
        return cls(
            models=1,
            replicas=replicas,
            min_replicas=spec.min_replicas,
            gpus=replicas * devices(spec),
            cache_bytes=amount(size) if size is not None else 0,
        )


def total(parts: Iterable[Amounts]) -> Amounts:
    return sum(parts, start=Amounts())


def devices(spec: InferenceModelSpec) -> int:
    """GPUs or other devices of one replica. Hardware profiles are known to the operator only: any
    profile but `cpu` counts as one device, unless the model itself gives a number."""
    asked = max(_devices(spec.pod.resources), default=0)
    return asked or int(spec.hardware != _CPU)


def _devices(resources: Resources) -> list[int]:
    given = {**resources.requests, **resources.limits}
    return [amount(value) for name, value in given.items() if not str(name).startswith(_NO_DEVICES)]


def amount(quantity: str) -> int:
    """The value of a Kubernetes quantity, rounded up: 500m is 1, 2Ki is 2,048."""
    return math.ceil(quantities.amount(quantity))
