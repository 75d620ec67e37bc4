"""Settings of the operator of one machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from inference_operator.redis.address import RedisUrl
from inference_operator.settings import CommonSettings


class LocalSettings(CommonSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True)

    inference_home: Path = Field(description="Folder of documents, statuses, logs and state.")
    redis_url: RedisUrl = Field(
        description="redis://…, rediss://… or unix://…; runners get it too."
    )
    model_cache_dir: Path = Field(
        Path("/tmp/model_cache"),  # noqa: S108 - the documented default
        description="Where runners keep downloaded and converted weights.",
    )
    local_tick_seconds: float = Field(
        0.5, ge=0.05, le=60, description="Pause between two ticks: documents, load and runners."
    )
    local_max_runners: int = Field(
        16, ge=0, le=10_000, description="The most runners that run on this machine."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of health and metrics.")
