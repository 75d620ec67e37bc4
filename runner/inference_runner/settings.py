"""Settings of a runner, read from the environment once, in `main`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from inference_contract import field_errors, queues
from inference_contract.inferencemodel import InferenceModelSpec
from inference_contract.leases import LEASE_SECONDS
from inference_contract.pods import RunnerEnv


class SettingsError(Exception):
    """The environment is not valid; the message names the variable."""


@dataclass(frozen=True)
class RunnerSettings:
    model_id: str
    spec: InferenceModelSpec
    redis_url: str
    name: str
    """Name of the RQ worker, unique for each replica."""
    cache_dir: Path
    enable_gpu: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    state_file: Path | None = None
    lease_seconds: float = LEASE_SECONDS
    log_level: str = "INFO"

    @property
    def key(self) -> str:
        """The model's key, which is also the name of its queue."""
        return queues.model_key(self.model_id)


@dataclass(frozen=True)
class FetchSettings:
    """Settings of a download."""

    spec: InferenceModelSpec
    cache_dir: Path
    log_level: str


def read_for_fetch(environ: Mapping[str, str]) -> FetchSettings:
    """Raises SettingsError."""
    return FetchSettings(
        spec=_spec(_required(environ, RunnerEnv.SPEC)),
        cache_dir=_cache_dir(environ),
        log_level=_log_level(environ),
    )


def read(environ: Mapping[str, str]) -> RunnerSettings:
    """Raises SettingsError."""
    model_id = _required(environ, RunnerEnv.MODEL_ID)
    if model_id.count("/") != 1 or "_" in model_id:
        raise SettingsError(f"{RunnerEnv.MODEL_ID} must be owner/name, not {model_id!r}")
    state_file = environ.get(RunnerEnv.STATE_FILE)
    return RunnerSettings(
        model_id=model_id,
        spec=_spec(_required(environ, RunnerEnv.SPEC)),
        redis_url=_required(environ, RunnerEnv.REDIS_URL),
        name=environ.get(RunnerEnv.NAME) or _new_name(model_id),
        cache_dir=_cache_dir(environ),
        enable_gpu=_flag(environ, RunnerEnv.ENABLE_GPU),
        host=environ.get(RunnerEnv.HOST) or "127.0.0.1",
        port=int(_number(environ, RunnerEnv.PORT, 0, 0, 65_535)),
        state_file=Path(state_file) if state_file else None,
        lease_seconds=_number(environ, RunnerEnv.LEASE_SECONDS, LEASE_SECONDS, 0.5, 3600),
        log_level=_log_level(environ),
    )


def _new_name(model_id: str) -> str:
    return queues.worker_name(queues.model_key(model_id), uuid.uuid4().hex[:8])


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def _spec(text: str) -> InferenceModelSpec:
    try:
        return InferenceModelSpec.model_validate_json(text)
    except ValidationError as error:
        wrong = field_errors.first(field_errors.of(error))
        raise SettingsError(f"{RunnerEnv.SPEC}: {wrong}") from None


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").lower()
    if value not in {"", "0", "1", "false", "true", "no", "yes"}:
        raise SettingsError(f"{name} must be true or false, not {value!r}")
    return value in {"1", "true", "yes"}


def _number(
    environ: Mapping[str, str], name: str, default: float, low: float, high: float
) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} must be a number, not {text!r}") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} must be from {low:g} to {high:g}, not {text}")
    return value


def _cache_dir(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(RunnerEnv.MODEL_CACHE_DIR) or "models-cache").absolute()


def _log_level(environ: Mapping[str, str]) -> str:
    text = environ.get("LOG_LEVEL") or "INFO"
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise SettingsError(f"LOG_LEVEL must be debug, info, warning or error, not {text!r}")
    return text.upper()
