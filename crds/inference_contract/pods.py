"""Shared by operator and runner: environment, labels, exit codes, the state file."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NotRequired, TypedDict

LABEL_OWNER = "inference-server.dev/owner"
LABEL_OWNER_ID = "inference-server.dev/owner-id"
"""The id of the account that a namespace belongs to."""
LABEL_MODEL = "inference-server.dev/model"
LABEL_HASH = "inference-server.dev/runner-hash"


class RunnerEnv(StrEnum):
    """Environment variables of a runner process."""

    MODEL_ID = "INFERENCE_MODEL_ID"
    """`owner/name`."""
    SPEC = "INFERENCE_MODEL_SPEC"
    """The InferenceModelSpec as JSON (camelCase)."""
    REDIS_URL = "REDIS_URL"
    MODEL_CACHE_DIR = "MODEL_CACHE_DIR"
    ENABLE_GPU = "ENABLE_GPU"
    PORT = "RUNNER_PORT"
    """Port of /health/live, /health/ready and /metrics on RUNNER_HOST; 0 chooses a free one."""
    HOST = "RUNNER_HOST"
    STATE_FILE = "RUNNER_STATE_FILE"
    """Where the runner writes its RunnerState (JSON, replaced atomically). Optional."""
    NAME = "RUNNER_NAME"
    """Name of the RQ worker, unique per replica: see `queues.worker_name`."""
    LEASE_SECONDS = "RUNNER_LEASE_SECONDS"
    """The length of a lease; the runner renews after a third of it."""
    REPLACES_ITSELF = "RUNNER_REPLACES_ITSELF"
    """Whether a runner that was ready and died restarts within its container or process, without
    the backoff of the kubelet or operator."""


POD_NAME = "POD_NAME"
"""On Kubernetes: a part of RUNNER_NAME."""
RESERVED_ENV = frozenset({*map(str, RunnerEnv), POD_NAME})
"""Names that a model's spec.env must not use."""


class RunnerPhase(StrEnum):
    LOADING = "Loading"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


class RunnerState(TypedDict):
    """The content of a runner's state file."""

    phase: str
    pid: int
    port: int
    message: NotRequired[str]
    load_seconds: NotRequired[float]


class RunnerExit(IntEnum):
    """Exit codes of a runner, for the operator."""

    OK = 0
    """Drained and stopped."""
    LOAD_FAILED = 3
    """The model did not load; the state file and the last log lines say why."""
    HUNG = 4
    """A prediction ran past its time and could not be stopped; start a new runner."""
    MISCONFIGURED = 5
    """The environment is not valid."""
    STOPPED = 6
    """The model's code was told to stop and did not return; start a new runner."""
    BROKEN = 7
    """The process can run no further predictions, as after an error of its GPU; start a new
    runner."""


DOWNLOADING = "downloading"
"""Event of log lines with a download's progress: `percent`, `bytes`, `total_bytes`."""
