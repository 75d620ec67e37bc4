"""Names in Redis. RQ's own keys keep RQ's layout, so that `rq info` and rq-dashboard work.

A model's key is `<owner>_<name>`: neither part can hold `_`, so keys never collide, and every key
that a runner touches can be granted by one pattern per kind.
"""

from __future__ import annotations

from datetime import UTC, datetime

JOB_FUNCTION = "inference_runner.worker.perform"
"""Stands in every job for RQ's tools; our worker runs nothing by name."""
JOB_KEY_PREFIX = "rq:job:"
QUEUES_KEY = "rq:queues"
DOORBELL = "inference:doorbell"
"""Stream of model keys: tells the recorder which event streams to read."""
ENDED = "inference:ended"
"""Channel: who has committed the ends of predictions says so here. No runner may."""
OPERATOR = "inference:operator"
"""There while an operator acts: it says so with every reading of the load."""
OPERATOR_SECONDS = 30
"""How long that holds."""
HELD = "inference:held"
"""Hash of model keys → how many of the model's predictions wait in PostgreSQL, not on its queue."""
HELD_SECONDS = 30
"""How long that holds: dispatch says it anew all the time."""
RECORDER_GROUP = "recorder"


def time_now() -> str:
    """The time as RQ writes it. For people only: leases go by Redis' clock. (`strftime` takes
    twice as long.)"""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def model_key(model_id: str) -> str:
    """`owner/name` → `owner_name`, which is also the name of the RQ queue."""
    return model_id.replace("/", "_")


def model_id(key: str) -> str:
    """The reverse of `model_key`."""
    return key.replace("_", "/")


def queue_key(key: str) -> str:
    """List of job ids that wait."""
    return f"rq:queue:{key}"


def in_flight_key(key: str) -> str:
    """Sorted set (RQ's StartedJobRegistry) of `<job id>:<execution id>` by lease end, seconds."""
    return f"rq:wip:{key}"


def job_key(job_id: str) -> str:
    return f"{JOB_KEY_PREFIX}{job_id}"


def cancel_key(key: str) -> str:
    """Hash of `<prediction id>` → attempt, for running predictions that shall stop."""
    return f"{key}:cancel"


def events_key(key: str) -> str:
    """The model's event stream: what the recorder and waiting callers read."""
    return f"{key}:events"


def stream_key(key: str, prediction_id: str) -> str:
    """The prediction's own stream: output as it comes, for SSE."""
    return f"{key}:stream:{prediction_id}"


def job_id(key: str, prediction_id: str, attempt: int) -> str:
    """RQ allows letters, digits, `_` and `-`."""
    return f"{key}_{prediction_id}_{attempt}"


def worker_name(key: str, replica: str) -> str:
    """Of a runner's RQ worker. It begins with the model's key, as all that the runner may touch.

    Args:
        replica: what tells it from the model's other runners: on Kubernetes its pod's name.
    """
    return f"{key}_{replica}"


def parse_worker_name(value: str) -> tuple[str, str]:
    """Model key and replica.

    Raises:
        ValueError: if it is not the name of one of our workers.
    """
    owner, name, replica = value.split("_", 2)
    return f"{owner}_{name}", replica


def parse_job_id(value: str) -> tuple[str, str, int]:
    """Model key, prediction id and attempt.

    Raises:
        ValueError: if it is not one of our job ids.
    """
    key, prediction_id, attempt = value.rsplit("_", 2)
    return key, prediction_id, int(attempt)
