"""Claims and releases jobs, in the key layout of RQ 3.0.

Layout: rq/executions.py (Execution.create, delete), rq/registry.py (StartedJobRegistry),
rq/job.py (prepare_for_execution), rq/worker/base.py (set_state, heartbeat). tests/runner/test_rq.py
compares it with RQ's own classes. RQ's executions, which only its tools read, are written only for
longer runs (see `ClaimKeys.executing`). A runner never writes to a job, which is the gateway's.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Sequence
from itertools import count
from typing import Any

import orjson

from inference_contract import functions, queues
from inference_runner.runs import Run

log = logging.getLogger(__name__)

Command = tuple[Any, ...]
_AT_ONCE = 1000
"""Runs released by one command."""


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


class ClaimKeys:
    """The keys of one worker of one model."""

    def __init__(self, key: str, worker: str) -> None:
        self.model = key
        self.worker_name = worker
        self.queue = queues.queue_key(key)
        self.in_flight = queues.in_flight_key(key)
        self.worker = f"rq:worker:{worker}"
        self.executions = f"rq:worker:{worker}:executions"
        self.cancel = queues.cancel_key(key)
        self.events = queues.events_key(key)
        self.process = uuid.uuid4().hex[:16]
        """The prefix of this process' execution ids."""
        self._claims = count()

    def claim(self, want: int, active: int, lease: float) -> Command:
        """The command that claims up to `want` jobs. Execution ids are a prefix and a number: a
        UUID for each job would cost more than all other work here."""
        execution = f"{self.process}{next(self._claims):012x}"
        where = (self.queue, self.in_flight, self.worker)
        how = (want, active, queues.time_now(), milliseconds(lease), execution)
        return ("FCALL", functions.CLAIM, 0, *where, *how)

    def renewal(self, runs: Sequence[Run], lease: float) -> list[Command]:
        """Commands that renew the leases which these runs still hold."""
        size = functions.MAX_LEASES
        chunks = [runs[start : start + size] for start in range(0, len(runs), size)]
        return [
            (
                *("FCALL", functions.RENEW, 0, self.in_flight, milliseconds(lease)),
                *(run.lease for run in chunk),
            )
            for chunk in chunks
        ]

    def executing(self, run: Run, lease: float) -> list[Command]:
        """Commands that show RQ's tools the runs of this worker (Execution.create)."""
        now, ttl = time.time(), math.ceil(lease) + 60
        execution, registry = f"rq:execution:{run.lease}", f"rq:executions:{run.job_id}"
        fields = {"id": run.execution, "job_id": run.job_id, "worker_name": self.worker_name}
        fields |= {"created_at": str(now), "last_heartbeat": str(now)}
        return [
            ("HSET", execution, *(part for pair in fields.items() for part in pair)),
            ("EXPIRE", execution, ttl),
            ("SADD", self.executions, run.lease),
            ("EXPIRE", self.executions, ttl),
            ("ZADD", registry, now + ttl, run.execution),
            ("EXPIRE", registry, ttl),
        ]

    def release(self, runs: Sequence[Run]) -> list[Command]:
        """Commands that remove these runs from RQ's keys."""
        chunks = [runs[start : start + _AT_ONCE] for start in range(0, len(runs), _AT_ONCE)]
        return [command for chunk in chunks for command in self._release(chunk)]

    def _release(self, runs: Sequence[Run]) -> list[Command]:
        lasted = [run for run in runs if run.announced]
        doomed = [queues.job_key(run.job_id) for run in runs]
        doomed += [f"rq:execution:{run.lease}" for run in lasted]
        doomed += [f"rq:executions:{run.job_id}" for run in lasted]
        commands: list[Command] = [
            ("DEL", *doomed),
            ("ZREM", self.in_flight, *(run.lease for run in runs)),
            ("HDEL", self.cancel, *(run.id for run in runs)),
        ]
        if lasted:
            commands.append(("SREM", self.executions, *(run.lease for run in lasted)))
        return commands


def parse(job_id: str, execution: str, data: bytes | None) -> Run | None:
    """The claimed job; None if it is not a valid job of the gateway."""
    try:
        function, _, (job,), _ = orjson.loads(data or b"")
        _, prediction, attempt = queues.parse_job_id(job_id)
        ours = function == queues.JOB_FUNCTION and job["id"] == prediction
        if not ours or job["attempt"] != attempt or not isinstance(job["input"], dict):
            raise ValueError("job and job id do not agree")
        job["token"] + ""  # a string, or TypeError
        job.setdefault("notify", [])
        job.setdefault("crashes", 0)  # not there in jobs of an older gateway
    except (ValueError, TypeError, KeyError) as error:
        log.error("a job is not valid and is dropped", extra={"job": job_id, "error": str(error)})
        return None
    return Run(job, job_id, execution, data or b"")
