"""Settings of the operator of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from inference_contract.inferencemodel import Pod, Resources
from inference_operator.plan import CPU
from inference_operator.redis.address import RedisUrl
from inference_operator.settings import CommonSettings

CACHE_DIR = "/cache"
"""Folder of a pod for weights."""
_BUILT_IN = {CPU: Pod(resources=Resources(requests={"cpu": "250m", "memory": "512Mi"}))}


_UrlOrNone = Annotated[RedisUrl | None, BeforeValidator(lambda url: url or None)]
"""An empty variable of the environment is as good as none."""


class ClusterSettings(CommonSettings):
    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    runner_image: str = Field(description="Image of runners whose model names none.")
    runner_image_pull_secrets: str = Field(
        "", description="Image pull Secrets in models' namespaces, separated by commas."
    )
    redis_url: RedisUrl = Field(
        description="Redis from which load is read, and where runners' users are created."
    )
    runner_redis_url: _UrlOrNone = Field(
        None, description="One URL for all runners; unset: a Redis user for each model."
    )
    runner_redis_bytes: int = Field(
        134_217_728,
        ge=0,
        description="Memory in Redis that one model's runners may use, bytes; 0: no limit. With "
        "RUNNER_REDIS_URL it has no effect.",
    )
    watch_namespaces: str = Field(
        "", description="Namespaces with models, separated by commas; empty: all."
    )
    model_cache_node_path: str | None = Field(
        None,
        pattern="^/.+",
        description="Folder of every node for weights; unset: they are deleted with the pod.",
    )
    hf_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]+",
        description="Mirror of the Hugging Face hub for downloads; unset: huggingface.co.",
    )
    hardware_profiles: dict[str, Pod] = Field(
        {},
        description="JSON: name → defaults for spec.pod of its models. cpu is built in.",
    )
    leader_namespace: str = Field(
        "", description="Namespace of the leader's Lease; empty: no election, a single operator."
    )
    leader_deployment: str = Field(
        "", description="The operator's own Deployment there, which owns the Lease."
    )
    tick_seconds: float = Field(
        1, ge=0.05, le=4, description="Pause between two readings of the load of all models."
    )
    resync_seconds: float = Field(
        300, ge=0.1, le=86_400, description="Pause between two reconciles of an unchanged model."
    )
    operator_workers: int = Field(
        16, ge=1, le=64, description="Models that are reconciled at the same time."
    )
    metrics_host: str = Field("0.0.0.0", description="Address of both.")  # noqa: S104 - a pod's

    @property
    def release(self) -> str:
        """The identity of this release; empty outside of a cluster."""
        if not self.leader_namespace:
            return ""
        return f"{self.leader_namespace}/{self.leader_deployment or 'inference-operator'}"

    @property
    def namespaces(self) -> list[str]:
        return _names(self.watch_namespaces)

    @property
    def pull_secrets(self) -> list[str]:
        return _names(self.runner_image_pull_secrets)

    @property
    def model_cache_dir(self) -> Path:
        return Path(CACHE_DIR)

    @property
    def profiles(self) -> dict[str, Pod]:
        return _BUILT_IN | self.hardware_profiles


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]
