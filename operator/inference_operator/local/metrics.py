"""The metrics of the operator of one machine."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference_contract.pods import RunnerPhase
from inference_operator.local.runners import Runner


class LocalMetrics:
    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.failures = prometheus_client.Counter(
            "inference_operator_runner_failures",
            "Runners that died or did not load.",
            ["model", "reason"],
            registry=self.registry,
        )
        self.set_aside = prometheus_client.Counter(
            "inference_operator_set_aside",
            "Reconciles of one model that failed; the log says why. Other models are not affected.",
            registry=self.registry,
        )
        self.tick_seconds = prometheus_client.Histogram(
            "inference_operator_tick_seconds",
            "Time of one tick: reading documents, load and runners, and acting on them.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0),
            registry=self.registry,
        )
        self._replicas = _Replicas()
        self.registry.register(self._replicas)

    def observe(self, model_ids: Iterable[str], runners: Sequence[Runner]) -> None:
        counts = Tally((runner.model, _state(runner)) for runner in runners)
        for model_id in model_ids:
            counts.setdefault((model_id, RunnerPhase.READY.value), 0)
        self._replicas.counts = counts

    def exposition(self) -> bytes:
        return prometheus_client.generate_latest(self.registry)


class _Replicas(Collector):
    """Reads a table that each tick replaces, so that a deleted model leaves no value."""

    counts: Tally[tuple[str, str]] = Tally()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "inference_operator_replicas", "Runners by state.", labels=["model", "state"]
        )
        for labels, count in self.counts.items():
            family.add_metric(list(labels), count)
        yield family


def _state(runner: Runner) -> str:
    return RunnerPhase.DRAINING.value if runner.stop_by is not None else runner.phase.value
