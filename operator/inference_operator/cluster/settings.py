"""Settings of the operator of a cluster."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from inference_contract.inferencemodel import Pod, Resources
from inference_operator.plan import CPU
from inference_operator.settings import CommonSettings

CACHE_DIR = "/cache"
"""Where a pod has its weights."""
_BUILT_IN = {CPU: Pod(resources=Resources(requests={"cpu": "250m", "memory": "512Mi"}))}


class ClusterSettings(CommonSettings):
    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    runner_image: str = Field(description="Image of runners whose model names none.")
    runner_image_pull_secrets: str = Field(
        "", description="Secrets of a model's namespace to pull with, separated by commas."
    )
    redis_url: str = Field(
        description="Where the operator reads the load of models and makes their runners' users."
    )
    runner_redis_url: str | None = Field(
        None, description="One URL for all runners; unset: a Redis user for each model."
    )
    runner_redis_bytes: int = Field(
        134_217_728,
        ge=0,
        description="What the runners of one model may have in Redis, bytes; 0: nobody looks. With "
        "RUNNER_REDIS_URL nobody can tell whose it is.",
    )
    watch_namespaces: str = Field(
        "", description="Namespaces with models, separated by commas; empty: all."
    )
    model_cache_node_path: str | None = Field(
        None,
        pattern="^/.+",
        description="Folder of every node where weights are kept; unset: they go with the pod.",
    )
    hf_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]+",
        description="Mirror of the Hugging Face hub for downloads; unset: huggingface.co.",
    )
    hardware_profiles: dict[str, Pod] = Field(
        {},
        description="JSON: name → what spec.pod of its models begins with. cpu is built in.",
    )
    leader_namespace: str = Field(
        "", description="Namespace of the Lease of which one operator acts; empty: this one, alone."
    )
    leader_deployment: str = Field(
        "", description="The operator's own Deployment there, with which the Lease goes."
    )
    tick_seconds: float = Field(
        1, ge=0.05, le=4, description="Pause between two readings of the load of all models."
    )
    resync_seconds: float = Field(
        300, ge=0.1, le=86_400, description="Pause between two looks at a model nobody touched."
    )
    operator_workers: int = Field(
        16, ge=1, le=64, description="Models that are looked at at the same time."
    )
    metrics_host: str = Field("0.0.0.0", description="Address of the same.")  # noqa: S104 - a pod's

    @property
    def release(self) -> str:
        """Who we are to other releases; empty outside of a cluster."""
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
