"""Names in Redis. RQ's own keys keep RQ's layout, so that `rq info` and rq-dashboard work.

A model's key is `<owner>_<name>`: neither part can hold `_`, so keys never collide, and every key
that a runner touches can be granted by one pattern per kind.
"""

from __future__ import annotations

from datetime import UTC, datetime

JOB_FUNCTION = "inference_runner.worker.perform"
"""Named in every job for RQ's tools; our worker does not import functions by name."""
JOB_KEY_PREFIX = "rq:job:"
QUEUES_KEY = "rq:queues"
DOORBELL = "inference:doorbell"
"""Stream of the keys of models with new work: the recorder then reads their event streams."""
ENDED = "inference:ended"
"""Channel for committed ends of predictions. Runners have no right to publish."""
OPERATOR = "inference:operator"
"""Exists while an operator is active, which sets it at every reading of the load."""
OPERATOR_SECONDS = 30
"""Expiry of that key."""
HELD = "inference:held"
"""Hash of model keys → how many of the model's predictions wait in PostgreSQL, not on its queue."""
HELD_SECONDS = 30
"""Expiry of that key, which dispatch keeps renewing."""
RECORDER_GROUP = "recorder"


def time_now() -> str:
    """The time in RQ's format. For display only: leases use Redis' clock. (`strftime` takes twice
    as long.)"""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def model_key(model_id: str) -> str:
    """`owner/name` → `owner_name`, which is also the name of the RQ queue."""
    return model_id.replace("/", "_")


def model_id(key: str) -> str:
    """The reverse of `model_key`."""
    return key.replace("_", "/")


def queue_key(key: str) -> str:
    """List of waiting job ids."""
    return f"rq:queue:{key}"


def in_flight_key(key: str) -> str:
    """Sorted set (RQ's StartedJobRegistry) of `<job id>:<execution id>` by lease end, seconds."""
    return f"rq:wip:{key}"


def job_key(job_id: str) -> str:
    return f"{JOB_KEY_PREFIX}{job_id}"


def cancel_key(key: str) -> str:
    """Hash of `<prediction id>` → attempt: cancel requests for running predictions."""
    return f"{key}:cancel"


def events_key(key: str) -> str:
    """The model's event stream, which the recorder reads."""
    return f"{key}:events"


def stream_key(key: str, prediction_id: str) -> str:
    """The prediction's own stream: output as it comes, for SSE."""
    return f"{key}:stream:{prediction_id}"


def job_id(key: str, prediction_id: str, attempt: int) -> str:
    """RQ allows letters, digits, `_` and `-`."""
    return f"{key}_{prediction_id}_{attempt}"


def worker_name(key: str, replica: str) -> str:
    """Name of a runner's RQ worker. It begins with the model's key, like all keys of the runner.

    Args:
        replica: unique among the model's runners: on Kubernetes the pod's name.
    """
    return f"{key}_{replica}"


def parse_worker_name(value: str) -> tuple[str, str]:
    """Model key and replica.

    Raises:
        ValueError: if it is not a valid worker name.
    """
    owner, name, replica = value.split("_", 2)
    return f"{owner}_{name}", replica


def parse_job_id(value: str) -> tuple[str, str, int]:
    """Model key, prediction id and attempt.

    Raises:
        ValueError: if it is not a valid job id.
    """
    key, prediction_id, attempt = value.rsplit("_", 2)
    return key, prediction_id, int(attempt)
