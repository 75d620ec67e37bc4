"""Reads the load of all models and decides how many replicas each shall have."""

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
class _Course:
    """What was decided last for a model, and of what."""

    spec: InferenceModelSpec
    history: Sequence[Sample | Gap]
    load: Load | None
    decision: Decision

    def holds(self, spec: InferenceModelSpec, load: Load | None) -> bool:
        """Whether a later reading of that load is decided the same, however much later.

        A steady model has the replicas that its load needs, or its minimum: no time changes that.
        """
        return self.decision.reason is Why.STEADY and load == self.load and spec is self.spec

    def up_to(self, at: float) -> Sequence[Sample | Gap]:
        """The history, with the readings until then that it held for."""
        *earlier, last = self.history
        if self.decision.reason is not Why.STEADY or isinstance(last, Gap):
            return self.history
        return [*earlier, replace(last, at=at, seen_from=last.since)]


class Scaler:
    """Thousands of models at rest cost next to nothing: a steady course is only looked at."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads
        self._courses: dict[str, _Course] = {}
        self._read_at = -math.inf
        self._redis_is_away = False

    def read(self, models: Mapping[str, InferenceModel]) -> Mapping[str, Load]:
        """The load of each model; of none while Redis is away."""
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
        """How many replicas each model shall have.

        Args:
            running: replicas by model; a model that was not seen before begins with them, and one
                that somebody else scales has them.
        """
        is_unbroken = now - self._read_at <= MAX_SILENCE
        courses = {}
        for model_id, model in models.items():
            load, course = loads.get(model_id), self._courses.get(model_id)
            if course is None or not is_unbroken or not course.holds(model.spec, load):
                course = self._judge(model_id, model.spec, load, running.get(model_id, 0), now)
            courses[model_id] = course
        self._courses, self._read_at = courses, now
        return {model_id: course.decision for model_id, course in courses.items()}

    def _judge(
        self, model_id: str, spec: InferenceModelSpec, load: Load | None, running: int, now: float
    ) -> _Course:
        before = self._courses.get(model_id)
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
        return _Course(spec, history, load, decision)
