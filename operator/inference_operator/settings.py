"""Settings of the operator, read from the environment once, in `main`.

Here are those of both halves, and those of the local one; the others are in kube_settings.py.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Common(BaseSettings):
    enable_gpu: bool = Field(
        True, description="Whether models of a hardware other than cpu may use the GPU."
    )
    lease_seconds: float = Field(
        30, ge=0.5, le=3600, description="Silence after which a running attempt counts as dead."
    )
    metrics_port: int = Field(
        8002, ge=0, le=65_535, description="Port of health and metrics; 0: a free one."
    )
    state_file: Path | None = Field(
        None, description="Where the process writes its pid and port, for `inference status`."
    )
    log_level: str = Field("INFO", pattern="(?i)^(debug|info|warning|error)$")


class Settings(Common):
    """Of the local half."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True)

    inference_home: Path = Field(description="Folder of documents, statuses, logs and state.")
    redis_url: str = Field(description="redis://…, rediss://… or unix://…; runners get it too.")
    model_cache_dir: Path = Field(
        Path("/tmp/model_cache"),  # noqa: S108 - the default that users of the seed know
        description="Where runners keep downloaded and converted weights.",
    )
    local_tick_seconds: float = Field(
        0.5, ge=0.05, le=60, description="Pause between two looks at documents, load and runners."
    )
    local_max_runners: int = Field(
        16, ge=0, le=10_000, description="Runners that this machine has room for."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the same.")


def explain(error: ValidationError) -> str:
    """A line for each variable that is missing or wrong."""
    lines = []
    for item in error.errors():
        name = "_".join(str(part) for part in item["loc"]).upper()
        lines.append(f"{name}: {item['msg']}\n")
    return "".join(lines)
