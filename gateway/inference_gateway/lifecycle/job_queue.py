"""Puts predictions on a model's RQ queue.

Redis is only an index of work: the relay enqueues a lost job again, and a job that is enqueued
twice runs with the same token, so that only one result counts."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import redis

from inference_contract import queues
from inference_contract.predictions import Job
from inference_contract.webhooks import WHILE_RUNNING
from inference_gateway.background import set_aside
from inference_gateway.lifecycle.prediction import Handed
from inference_gateway.postgres import stored
from inference_gateway.redis.replies import ask, is_keys_own

_log = logging.getLogger(__name__)

# The fields that rq.job.Job.restore (RQ 3.0) needs, so that RQ's tools show our jobs. An existing
# job is not changed. `crashes` and `waits` are our own fields, for the claim, which does not read
# `data`. The claim removes `waits`, as runners have no right to write jobs. RQ's tools find running
# jobs in RQ's registry; their status stays `queued`.
_ENQUEUE = """
local queue, origin, now, push = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local all_new, added, is_added = false, {}, {}
if #ARGV > 6 then -- more than one
  local keys = {}
  for i = 4, #ARGV, 3 do keys[#keys + 1] = 'rq:job:' .. ARGV[i] end
  all_new = redis.call('EXISTS', unpack(keys)) == 0
end
for i = 4, #ARGV, 3 do
  local id, key = ARGV[i], 'rq:job:' .. ARGV[i]
  if not is_added[id] and (all_new or redis.call('EXISTS', key) == 0) then
    redis.call('HSET', key, 'status', 'queued', 'origin', origin, 'created_at', now,
      'enqueued_at', now, 'timeout', '-1', 'description', id, 'waits', '1',
      'data', ARGV[i + 1])
    if ARGV[i + 2] ~= '0' then redis.call('HSET', key, 'crashes', ARGV[i + 2]) end
    added[#added + 1], is_added[id] = id, true
  end
end
if #added > 0 then redis.call(push, queue, unpack(added)) end
redis.call('SADD', KEYS[2], queue)
return #added
"""
_SHA = hashlib.sha1(_ENQUEUE.encode(), usedforsecurity=False).hexdigest()
_RING_AGAIN_AFTER = 10.0
"""Seconds after which the doorbell is rung again for a model with work."""
Command = tuple[Any, ...]
_CHUNK = 500
"""Jobs per script call, which blocks Redis."""
_CHUNK_BYTES = 8_000_000
"""Bytes of inputs per call, unless one is larger: Redis limits the query buffer of a client."""


HANDED = ", ".join(f"p.{name}" for name in Handed.__annotations__)
"""Of a row `p` of predictions: what `to_job` takes."""


def to_job(row: Handed) -> Job:
    """The job for a row."""
    wanted = row["webhook_events"] or ()
    return Job(
        id=str(row["id"]),
        attempt=row["attempt"],
        token=row["token"],
        input=row["input"],
        notify=[event for event in WHILE_RUNNING if event in wanted],
        crashes=row["crashes"],
    )


def put(model_id: str, jobs: Iterable[Job], *, front: bool = False) -> list[Command]:
    """Commands that put jobs of one model on its queue, to be sent in order.

    Each replies with the number of new jobs, or NOSCRIPT. Jobs that cannot be encoded are left out.
    """
    key = queues.model_key(model_id)
    arguments: list[str | bytes | int] = []
    for job in jobs:
        try:
            data = orjson.dumps([queues.JOB_FUNCTION, None, [job], {}], default=stored.as_json)
        except TypeError as error:  # the other jobs must still run
            set_aside.ITEMS.labels("queue").inc()
            _log.error("no runner can be given this: %s", error, extra=_story(job))
            continue
        arguments += (queues.job_id(key, job["id"], job["attempt"]), data, job["crashes"])
    keys = queues.queue_key(key), queues.QUEUES_KEY
    push = "LPUSH" if front else "RPUSH"
    how = ("EVALSHA", _SHA, len(keys), *keys, key, queues.time_now(), push)
    return [(*how, *chunk) for chunk in _chunks(arguments)]


class JobQueue:
    """Enqueues; safe to use from several threads.

    Args:
        client: a client that returns bytes.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._rung: dict[str, float] = {}

    def enqueue(self, model_id: str, jobs: Iterable[Job], *, front: bool = False) -> int:
        """Put jobs of one model on its queue, and ring the doorbell for the recorder.

        Returns:
            The number of new jobs. Jobs that cannot be encoded are left out.

        Raises:
            redis.RedisError: Redis does not answer; enqueueing again later is safe.
        """
        self._ring(queues.model_key(model_id))
        return sum(map(self._put, put(model_id, jobs, front=front)))

    def has_rung(self, model_id: str) -> bool:
        """Whether the doorbell was rung for this model a moment ago."""
        rung = self._rung.get(queues.model_key(model_id), -_RING_AGAIN_AFTER)
        return time.monotonic() - rung < _RING_AGAIN_AFTER

    def _put(self, command: Command) -> int:
        """(redis-py's Script would ask SCRIPT EXISTS first.)"""
        try:
            (new,) = ask(self._redis, [command])
        except redis.exceptions.NoScriptError:
            self._redis.script_load(_ENQUEUE)
            (new,) = ask(self._redis, [command])
        return int(new)

    def _ring(self, key: str) -> None:
        """Ring the doorbell. If its key is not a stream it is removed: the recorder also reads
        PostgreSQL."""
        if time.monotonic() - self._rung.get(key, -_RING_AGAIN_AFTER) < _RING_AGAIN_AFTER:
            return
        try:
            self._redis.xadd(queues.DOORBELL, {"model": key}, maxlen=10_000, approximate=True)
        except redis.ResponseError as error:
            if not is_keys_own(error):
                raise
            set_aside.ITEMS.labels("doorbell").inc()
            _log.warning("%s cannot be written: %s; it is removed", queues.DOORBELL, error)
            self._redis.delete(queues.DOORBELL)
            return
        self._rung[key] = time.monotonic()


def _story(job: Job) -> dict[str, object]:
    return {"prediction": job["id"], "attempt": job["attempt"]}


def _chunks(arguments: list[str | bytes | int]) -> Iterator[list[str | bytes | int]]:
    """Split the arguments by size. Three are a job; the second of them may be large."""
    start = size = 0
    for at in range(0, len(arguments), 3):
        data = arguments[at + 1]
        size += len(data) if isinstance(data, bytes) else 0
        if at > start and (at - start >= 3 * _CHUNK or size > _CHUNK_BYTES):
            yield arguments[start:at]
            start, size = at, len(data) if isinstance(data, bytes) else 0
    if start < len(arguments):
        yield arguments[start:]
