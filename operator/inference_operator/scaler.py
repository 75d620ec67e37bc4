"""Reads the load of all models and decides how many replicas each shall have."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from inference_contract.inferencemodel import InferenceModel, ScalingMode
from inference_operator.autoscale import Decision, Gap, Sample, decide, remember
from inference_operator.loads import Load, Loads
from inference_operator.redis_link import RedisUnavailable

log = logging.getLogger(__name__)


class Scaler:
    def __init__(self, loads: Loads) -> None:
        self._loads = loads
        self._histories: dict[str, list[Sample | Gap]] = {}
        self._replicas: dict[str, int] = {}
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
        before = {
            model_id: self._current(model_id, model, running.get(model_id, 0))
            for model_id, model in models.items()
        }
        histories, decisions = {}, {}
        for model_id, model in models.items():
            load = loads.get(model_id)
            reading = Gap(now) if load is None else Sample(now, *load)
            history = remember(self._histories.get(model_id, ()), reading, model.spec)
            decision = decide(history, now, model.spec, before[model_id])
            histories[model_id], decisions[model_id] = history, decision
            if decision.replicas != before[model_id]:
                change = f"{before[model_id]} → {decision.replicas} replicas: {decision.reason}"
                log.info(change, extra={"model": model_id})
        self._histories = histories
        self._replicas = {model_id: d.replicas for model_id, d in decisions.items()}
        return decisions

    def _current(self, model_id: str, model: InferenceModel, running: int) -> int:
        if model.spec.autoscaling.mode is ScalingMode.NONE:
            return running
        return self._replicas.get(model_id, running)
