"""The plan for a model's runners, from its InferenceModel: the same for processes and for pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inference_contract.inferencemodel import InferenceModel
from inference_contract.pods import LABEL_HASH, LABEL_MODEL, LABEL_OWNER, RunnerEnv

CPU = "cpu"
"""The hardware profile that always exists; on one machine the others name kinds of GPU."""
LOAD_GRACE = 30.0
"""Seconds beyond loadSeconds: the runner's own watchdog acts first, with a better error."""
AFTER_PREDICTION = 30
"""Seconds for a stopping runner to send the events of its last prediction."""


class PlanSettings(Protocol):
    """The settings that a plan needs; both operators have them."""

    @property
    def redis_url(self) -> str: ...
    @property
    def model_cache_dir(self) -> Path: ...
    @property
    def enable_gpu(self) -> bool: ...
    @property
    def lease_seconds(self) -> float: ...


@dataclass(frozen=True)
class RunnerPlan:
    """The same for all replicas of a model; names and slots are added at the start."""

    model: str
    """`owner/name`."""
    replicas: int
    hash: str
    """A runner with another hash must be replaced."""
    labels: Mapping[str, str]
    env: Mapping[str, str]
    load_seconds: float
    grace_seconds: float
    """Time between SIGTERM and SIGKILL."""


def plan(model: InferenceModel, settings: PlanSettings, replicas: int) -> RunnerPlan:
    spec, timeouts = model.spec, model.spec.timeouts
    fingerprint = spec.runner_hash()
    ours = {
        RunnerEnv.MODEL_ID: model.id,
        RunnerEnv.SPEC: spec.model_dump_json(by_alias=True, exclude_none=True),
        RunnerEnv.REDIS_URL: settings.redis_url,
        RunnerEnv.MODEL_CACHE_DIR: str(settings.model_cache_dir),
        RunnerEnv.ENABLE_GPU: str(settings.enable_gpu and spec.hardware != CPU).lower(),
        RunnerEnv.LEASE_SECONDS: f"{settings.lease_seconds:g}",
    }
    theirs = {entry.name: entry.value for entry in spec.env}
    return RunnerPlan(
        model=model.id,
        replicas=replicas,
        hash=fingerprint,
        labels={
            LABEL_OWNER: model.owner,
            LABEL_MODEL: model.metadata.name,
            LABEL_HASH: fingerprint,
        },
        env=theirs | {str(name): value for name, value in ours.items()},
        load_seconds=timeouts.load_seconds,
        grace_seconds=timeouts.drain_seconds or timeouts.predict_seconds + AFTER_PREDICTION,
    )
