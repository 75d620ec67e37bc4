"""Settings that both operators share; read from the environment once, in `main`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from inference_contract.leases import LEASE_SECONDS


class CommonSettings(BaseSettings):
    enable_gpu: bool = Field(
        True, description="Whether models of a hardware other than cpu may use the GPU."
    )
    lease_seconds: float = Field(
        LEASE_SECONDS,
        ge=0.5,
        le=3600,
        description="Silence after which a running attempt counts as dead.",
    )
    metrics_port: int = Field(
        8002, ge=0, le=65_535, description="Port of health and metrics; 0: a free one."
    )
    state_file: Path | None = Field(
        None, description="Where the process writes its pid and port, for `inference status`."
    )
    log_level: str = Field("INFO", pattern="(?i)^(debug|info|warning|error)$")
