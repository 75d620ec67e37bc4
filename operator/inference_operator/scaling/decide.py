"""How many replicas a model needs: a pure function of the readings of its load.

Scales up at once to the replicas that the load needs. Scales down only when the highest need within
`scaleDownDelaySeconds` is lower, and to zero only after `idleTimeoutSeconds` without any work. Time
without readings never removes a replica. With `mode: None` another program scales, and the number
stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from inference_contract.inferencemodel import InferenceModelSpec, ScalingMode

MAX_SILENCE = 5.0
"""Seconds. If readings are further apart, or the last one is older, the load counts as unknown."""


@dataclass(frozen=True)
class Sample:
    """One reading. After `remember` it also stands for earlier readings that were not higher."""

    at: float
    """Seconds of a monotonic clock."""
    queued: int
    in_flight: int
    seen_from: float | None = None
    """Time of the first reading that this one stands for; None: only itself."""

    @property
    def load(self) -> int:
        return self.queued + self.in_flight

    @property
    def since(self) -> float:
        return self.at if self.seen_from is None else self.seen_from


@dataclass(frozen=True)
class Gap:
    """A reading that failed."""

    at: float


class Why(StrEnum):
    """Why the number of replicas is what it is; the reason of the condition ScalingActive."""

    STEADY = "Steady"
    SCALE_UP = "ScaleUp"
    SCALE_DOWN = "ScaleDown"
    DELAYED = "ScaleDownDelay"
    IDLE = "IdleTimeout"
    LIMITED = "MaxReplicas"
    UNKNOWN = "LoadUnknown"
    EXTERNAL = "External"


@dataclass(frozen=True)
class Decision:
    replicas: int
    reason: Why
    changed_by: Why | None = field(default=None, compare=False)
    """The reason of the last change of the number, if it differs from `reason`."""


def decide(
    history: Sequence[Sample | Gap], now: float, spec: InferenceModelSpec, current: int
) -> Decision:
    """The number of replicas that the model needs.

    Args:
        history: readings, oldest first.
        now: seconds, by the clock of the readings.
        current: the number wanted so far, by the last decision or by another program that scales.
    """
    if spec.autoscaling.mode is ScalingMode.NONE:
        return Decision(current, Why.EXTERNAL)
    held = min(max(current, spec.min_replicas), spec.max_replicas)
    seen = _unbroken(history, now)
    if not seen:
        return Decision(held, Why.UNKNOWN)
    latest = seen[-1]
    needed = math.ceil(latest.load / spec.autoscaling.target_per_replica)
    if needed > spec.max_replicas:
        return Decision(spec.max_replicas, Why.LIMITED)
    if needed > held:
        return Decision(needed, Why.SCALE_UP)
    lowest = max(_highest_wish(seen, now, spec, held), spec.min_replicas)
    if lowest == 0 and held > 0 and not _idle(seen, now, spec.autoscaling.idle_timeout_seconds):
        return Decision(1, Why.IDLE)
    if lowest < held:
        return Decision(lowest, Why.SCALE_DOWN)
    return Decision(held, Why.DELAYED if max(needed, spec.min_replicas) < held else Why.STEADY)


def remember(
    history: Sequence[Sample | Gap], reading: Sample | Gap, spec: InferenceModelSpec
) -> list[Sample | Gap]:
    """The history with this reading, without readings that can no longer change a decision.

    A reading makes earlier lower ones irrelevant, so the kept readings descend: an idle week is one
    entry.
    """
    if isinstance(reading, Gap):
        return [reading]
    kept = _unbroken(history, reading.at)
    since = reading.since
    while kept and kept[-1].load <= reading.load:
        since = kept.pop().since
    kept.append(replace(reading, seen_from=since))
    scaling = spec.autoscaling
    oldest = reading.at - max(scaling.scale_down_delay_seconds, scaling.idle_timeout_seconds)
    while len(kept) > 1 and kept[1].since <= oldest:
        kept.pop(0)
    return list(kept)


def _unbroken(history: Sequence[Sample | Gap], now: float) -> list[Sample]:
    """The readings since the last gap; none if the last reading is too old."""
    seen: list[Sample] = []
    end = now
    for reading in reversed(history):
        if isinstance(reading, Gap) or end - reading.at > MAX_SILENCE:
            break
        seen.append(reading)
        end = reading.since
    return seen[::-1]


def _highest_wish(
    seen: Sequence[Sample], now: float, spec: InferenceModelSpec, current: int
) -> int:
    """The highest need within the scale-down delay; time without readings counts as `current`."""
    start = now - spec.autoscaling.scale_down_delay_seconds
    if seen[0].since > start:
        return current
    load = max(sample.load for sample in seen if sample.at >= start or sample is seen[-1])
    return min(math.ceil(load / spec.autoscaling.target_per_replica), current)


def _idle(seen: Sequence[Sample], now: float, timeout: float) -> bool:
    idle_since = seen[0].since
    for sample in seen:
        if sample.load:
            idle_since = math.inf
        elif math.isinf(idle_since):
            idle_since = sample.since
    return now - idle_since >= timeout
