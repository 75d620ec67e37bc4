"""Taking jobs off the queue and letting go of them, in the key layout of RQ 3.0.

Layout: rq/executions.py (Execution.create, delete), rq/registry.py (StartedJobRegistry),
rq/job.py (prepare_for_execution), rq/worker/base.py (set_state, heartbeat). tests/runner/test_rq.py
holds it against RQ's own classes. RQ's executions, which only its tools read, are written for runs
that last (see `Keys.executing`).
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import orjson

from inference_contract import queues
from inference_runner.runs import Run

log = logging.getLogger(__name__)

Command = tuple[Any, ...]

# Pops up to ARGV[1] jobs. Whatever is not `queued` (canceled, gone, claimed) is dropped. A job
# that runners died of runs alone: not while ARGV[2] others run, and nothing comes with it.
CLAIM = """
local want, active, worker = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local iso, lease, execution = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local out, n = {}, 0
while n < want do
  local id = redis.call('LPOP', KEYS[1])
  if not id then break end
  local hash = 'rq:job:' .. id
  local job = redis.call('HMGET', hash, 'status', 'data', 'crashes')
  if job[1] == 'queued' then
    local is_suspect = job[3]
    if is_suspect and n + active > 0 then
      redis.call('LPUSH', KEYS[1], id)
      break
    end
    n = n + 1
    local run = string.format('%s%04x', execution, n)
    redis.call('HSET', hash, 'status', 'started', 'started_at', iso, 'last_heartbeat', iso,
      'worker_name', worker)
    redis.call('ZADD', KEYS[2], now + lease, id .. ':' .. run)
    out[#out + 1] = id
    out[#out + 1] = run
    out[#out + 1] = job[2]
    if is_suspect then break end
  end
end
if n > 0 then
  redis.call('HSET', KEYS[3], 'state', 'busy', 'last_heartbeat', iso)
end
return out
"""

# Renews the leases ARGV[3…] that are still held; what has ended meanwhile is not brought back.
RENEW = """
local lease, iso = tonumber(ARGV[1]), ARGV[2]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local ttl = math.ceil(lease)
for i = 3, #ARGV do
  local both = ARGV[i]
  if redis.call('ZSCORE', KEYS[1], both) then
    local id, run = string.match(both, '^(.*):(.*)$')
    redis.call('ZADD', KEYS[1], now + lease, both)
    redis.call('HSET', 'rq:job:' .. id, 'last_heartbeat', iso)
    if redis.call('EXPIRE', 'rq:execution:' .. both, ttl + 60) == 1 then
      redis.call('HSET', 'rq:execution:' .. both, 'last_heartbeat', string.format('%.6f', now))
      redis.call('ZADD', 'rq:executions:' .. id, now + lease + 60, run)
      redis.call('EXPIRE', 'rq:executions:' .. id, ttl + 60)
    end
  end
end
"""


def iso_now() -> str:
    """The time as RQ writes it. For people only: leases go by Redis' clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Keys:
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
        self._process = uuid.uuid4().hex[:16]
        self._claims = count()

    def claim_arguments(self, want: int, active: int, lease: float) -> Command:
        """What follows `EVALSHA <sha>`. Execution ids are this prefix and a number, for one uuid
        for every job would cost more than all the rest here."""
        execution = f"{self._process}{next(self._claims):012x}"
        keys = (3, self.queue, self.in_flight, self.worker)
        return (*keys, want, active, self.worker_name, iso_now(), lease, execution)

    def executing(self, run: Run, lease: float) -> list[Command]:
        """Commands that show RQ's tools what this worker is at (Execution.create)."""
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
        """Commands that remove every trace of these runs from RQ's keys."""
        lasted = [run for run in runs if run.announced]
        doomed = [f"{queues.JOB_KEY_PREFIX}{run.job_id}" for run in runs]
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
    """The claimed job, or None if it is not one that the gateway made."""
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
    return Run(job, job_id, execution)
