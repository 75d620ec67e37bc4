"""What the operator sets and a runner reads: environment, labels, exit codes, the state file."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NotRequired, TypedDict

LABEL_OWNER = "inference-server.dev/owner"
LABEL_OWNER_ID = "inference-server.dev/owner-id"
"""Of the account that a namespace belongs to, whoever has its name."""
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
    """How long a silent runner keeps its work; it renews every third of this."""
    REPLACES_ITSELF = "RUNNER_REPLACES_ITSELF"
    """Whether a runner that was Ready and ended untold starts anew within its container, or on one
    machine its process, without the backoff of whoever started it."""


POD_NAME = "POD_NAME"
"""On Kubernetes: what RUNNER_NAME is made of."""
RESERVED_ENV = frozenset({*map(str, RunnerEnv), POD_NAME})
"""Names that no model may give a value."""


class RunnerPhase(StrEnum):
    LOADING = "Loading"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


class RunnerState(TypedDict):
    """What a runner says about itself."""

    phase: str
    pid: int
    port: int
    message: NotRequired[str]
    load_seconds: NotRequired[float]


class RunnerExit(IntEnum):
    """Exit codes: what the operator may conclude from them."""

    OK = 0
    """Drained and stopped."""
    LOAD_FAILED = 3
    """The model did not load; the state file and the last log lines say why."""
    HUNG = 4
    """A prediction ran past its time and could not be stopped; start a new runner."""
    MISCONFIGURED = 5
    """The environment is not valid."""
    STOPPED = 6
    """The model's code works for nobody any more and did not come back; start a new runner."""
    BROKEN = 7
    """Nothing can be run in this process any more, such as after an error of its GPU; start a new
    runner."""


DOWNLOADING = "downloading"
"""Event of the log lines that say how far a download is: `percent`, `bytes`, `total_bytes`."""
