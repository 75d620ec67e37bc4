"""Reads the load of all models and decides how many replicas each needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inference_contract.inferencemodel import InferenceModel, InferenceModelSpec, ScalingMode
from inference_operator.redis.connection import RedisUnavailable
from inference_operator.scaling.decide import (
    MAX_SILENCE,
    Decision,
    Gap,
    Sample,
    Why,
    decide,
    remember,
)
from inference_operator.scaling.load import Load, Loads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Decided:
    """The last decision for a model, and its inputs."""

    spec: InferenceModelSpec
    history: Sequence[Sample | Gap]
    load: Load | None
    decision: Decision

    def still_applies(self, spec: InferenceModelSpec, load: Load | None) -> bool:
        """Whether the same load at any later time gives the same decision.

        A steady model has the replicas that its load needs, or its minimum: time alone changes
        nothing.
        """
        return self.decision.reason is Why.STEADY and load == self.load and spec is self.spec

    def up_to(self, at: float) -> Sequence[Sample | Gap]:
        """The history; for a steady model the last reading is extended until `at`."""
        *earlier, last = self.history
        if self.decision.reason is not Why.STEADY or isinstance(last, Gap):
            return self.history
        return [*earlier, replace(last, at=at, seen_from=last.since)]


class Scaler:
    """Decides anew only for models whose load changed or whose decision depends on time, so that
    thousands of idle models cost little."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads
        self._decided: dict[str, _Decided] = {}
        self._read_at = -math.inf
        self._redis_is_away = False

    def read(self, models: Mapping[str, InferenceModel]) -> Mapping[str, Load]:
        """The load of each model; empty while Redis does not answer."""
        try:
            loads = self._loads.read(models)
        except RedisUnavailable as error:
            if not self._redis_is_away:
                log.warning("no load from Redis, replicas are held: %s", error)
            self._redis_is_away = True
            return {}
        if self._redis_is_away:
            log.info("Redis is back")
        self._redis_is_away = False
        return loads

    def close(self) -> None:
        self._loads.close()

    def decide(
        self,
        models: Mapping[str, InferenceModel],
        loads: Mapping[str, Load],
        running: Mapping[str, int],
        now: float,
    ) -> dict[str, Decision]:
        """How many replicas each model needs.

        Args:
            running: actual replicas by model. They are the start value for a new model, and the
                value for a model that another program scales.
        """
        is_unbroken = now - self._read_at <= MAX_SILENCE
        decided = {}
        for model_id, model in models.items():
            load, last = loads.get(model_id), self._decided.get(model_id)
            if last is None or not is_unbroken or not last.still_applies(model.spec, load):
                last = self._decide_one(model_id, model.spec, load, running.get(model_id, 0), now)
            decided[model_id] = last
        self._decided, self._read_at = decided, now
        return {model_id: last.decision for model_id, last in decided.items()}

    def _decide_one(
        self, model_id: str, spec: InferenceModelSpec, load: Load | None, running: int, now: float
    ) -> _Decided:
        before = self._decided.get(model_id)
        is_ours = spec.autoscaling.mode is not ScalingMode.NONE
        current = before.decision.replicas if before and is_ours else running
        target = spec.autoscaling.target_per_replica
        waiting = 0 if load is None else load.wanted(target)
        reading = Gap(now) if load is None else Sample(now, waiting, load.in_flight)
        history = remember(before.up_to(self._read_at) if before else (), reading, spec)
        decision = decide(history, now, spec, current)
        if decision.replicas != current:
            change = f"{current} → {decision.replicas} replicas: {decision.reason}"
            log.info(change, extra={"model": model_id})
        elif before:
            changed_by = before.decision.changed_by or before.decision.reason
            decision = replace(decision, changed_by=changed_by)
        return _Decided(spec, history, load, decision)
