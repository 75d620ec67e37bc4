"""The state of jobs in Redis: which wait, which run, which leases have expired."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import redis

from inference_contract import queues
from inference_gateway.dispatch.recovery.rules import JobState, OpenRow
from inference_gateway.lifecycle.cancel import Withdrawal, withdraw
from inference_gateway.lifecycle.prediction import Attempt
from inference_gateway.redis.replies import each

_CHUNK = 500
"""Jobs per script call, which blocks Redis."""
_LOOKS_AT = 20_000
"""Queue positions that one script call searches (it may pass the limit by one queue): a few
milliseconds. Other jobs are searched for in later calls."""

# A waiting job has the field `waits` and an entry in its queue. These are two keys, and a runner
# may pop any entry: a job without entry can never be claimed, so it is deleted here. A queue is
# nearly in the order of its jobs' ids. So only jobs that sort before its head are searched for; a
# lost job does so as soon as those before it have run.
_STATUSES = f"""
local queues, looked = {{}}, 0

local function stands_in_queue(id)
  local name = 'rq:queue:' .. string.match(id, '^(.*)_.-_.-$')
  local queue = queues[name]
  if not queue then
    local head = redis.pcall('LINDEX', name, 0)
    local is_empty = type(head) ~= 'string'
    queue = {{head = head, is_empty = is_empty, size = is_empty or redis.call('LLEN', name)}}
    queues[name] = queue
  end
  if queue.is_empty then return false end
  if id >= queue.head or looked > {_LOOKS_AT} then return true end
  looked = looked + queue.size
  return redis.call('LPOS', name, id)
end

local found = {{}}
for i, id in ipairs(ARGV) do
  local key = 'rq:job:' .. id
  if redis.pcall('HEXISTS', key, 'waits') ~= 1 then
    found[i] = redis.call('TYPE', key).ok == 'hash' and 'started' or ''
  elseif stands_in_queue(id) then
    found[i] = 'queued'
  else
    redis.call('DEL', key)
    found[i] = ''
  end
end
return found
"""


_MOST_LEASES = 20_000
"""Leases of one model in one read, the latest: more than any model's runners have at once."""
_MOST_EXPIRED = 1000
"""Expired leases of one model in one read; the others follow in the next."""


class Leases(NamedTuple):
    """The leases of jobs at one moment."""

    ends: Mapping[str, float]
    """Job id → end of its lease, unix seconds."""
    now: float
    """By Redis' clock."""

    def state(self, job: str) -> JobState:
        """The state of a claimed job. Without a lease it has just ended, or Redis has lost the
        lease: its runner does not count as dead."""
        if job not in self.ends:
            return JobState.MISSING
        return JobState.STARTED if self.ends[job] > self.now else JobState.DEAD


def job_of(row: OpenRow) -> str:
    return queues.job_id(queues.model_key(row.model), str(row.id), row.attempt)


def states(client: redis.Redis, rows: Sequence[OpenRow]) -> list[JobState]:
    """The states of the rows' jobs. Jobs of rows with a cancel request are withdrawn first."""
    found = _statuses(client, [job_of(row) for row in rows])
    unwanted = [i for i, row in enumerate(rows) if row.cancel_requested]
    wanted: list[Attempt] = [
        {"id": rows[i].id, "model": rows[i].model, "attempt": rows[i].attempt} for i in unwanted
    ]
    withdrawn = withdraw(client, wanted) if wanted else []
    for i, withdrawal in zip(unwanted, withdrawn, strict=True):
        found[i] = "started" if withdrawal is Withdrawal.RUNNING else withdrawal.value
    # Read after the job hashes: a job that was claimed then and has no lease now has ended.
    running = {row.model for row, status in zip(rows, found, strict=True) if status == "started"}
    held = leases(client, map(queues.model_key, running))
    return [_state(s, job_of(row), held) for s, row in zip(found, rows, strict=True)]


def _state(status: str, job: str, held: Leases) -> JobState:
    if status == "started":
        return held.state(job)
    return JobState(status or "missing")


def _statuses(client: redis.Redis, jobs: Sequence[str]) -> list[str]:
    with client.pipeline(transaction=False) as pipe:
        for start in range(0, len(jobs), _CHUNK):
            pipe.eval(_STATUSES, 0, *jobs[start : start + _CHUNK])
        return [status.decode() for chunk in pipe.execute() for status in chunk]


def leases(client: redis.Redis, keys: Iterable[str]) -> Leases:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            # A model's runners may write any number of members.
            pipe.zrevrange(queues.in_flight_key(key), 0, _MOST_LEASES - 1, withscores=True)
        pipe.time()
        *sets, (seconds, microseconds) = each(pipe)
    held = [members for members in sets if not isinstance(members, Exception)]
    ends = {_job(member): score for members in held for member, score in members}
    return Leases(ends, seconds + microseconds / 1e6)


def _job(member: bytes) -> str:
    return member.decode(errors="replace").rpartition(":")[0]


def expired(client: redis.Redis) -> dict[str, list[bytes]]:
    """Model key → members of its in-flight set with an expired lease, for all queues; at most
    `_MOST_EXPIRED` of each."""
    prefix = queues.queue_key("")
    names: Any = client.smembers(queues.QUEUES_KEY)
    # Runners write these names too; a hostile one may write any.
    keys = [name.decode(errors="replace").removeprefix(prefix) for name in names]
    seconds, _ = client.time()
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            name = queues.in_flight_key(key)
            pipe.zrangebyscore(name, "-inf", seconds, start=0, num=_MOST_EXPIRED)
        found = zip(keys, each(pipe), strict=True)
        return {key: members for key, members in found if type(members) is list and members}


def forget(client: redis.Redis, key: str, members: Collection[bytes]) -> None:
    """Remove the jobs and leases of a dead runner."""
    if not members:
        return
    jobs = list(map(_job, members))
    with client.pipeline(transaction=False) as pipe:
        pipe.zrem(queues.in_flight_key(key), *members)
        pipe.delete(*map(queues.job_key, jobs), *(f"rq:executions:{job}" for job in jobs))
        each(pipe)


def attempts(members: Iterable[bytes]) -> dict[bytes, tuple[UUID, int]]:
    """Member of an in-flight set → prediction id and attempt; invalid members are left out."""
    found = {}
    for member in members:
        try:
            _, prediction, attempt = queues.parse_job_id(_job(member))
            found[member] = (UUID(prediction), attempt)
        except ValueError:
            continue
    return found
