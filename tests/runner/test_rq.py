"""RQ's own classes see what our worker does: the key layout of RQ 3.0 that we rely on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
import rq
from narrow import there
from rq.job import JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from inference_contract import queues

KEY = "ann_sample"
NAME = f"{KEY}_worker-1"


@pytest.fixture
def rq_queue(redis_client: redis.Redis) -> rq.Queue:
    return rq.Queue(KEY, connection=redis_client, serializer=JSONSerializer)


def test_the_name_in_every_job_resolves() -> None:
    module, _, name = queues.JOB_FUNCTION.rpartition(".")
    perform = getattr(importlib.import_module(module), name)
    with pytest.raises(RuntimeError, match="BatchWorker"):
        perform({})


def test_rq_counts_what_waits(queue: Any, rq_queue: rq.Queue) -> None:
    queue.put(queue.job("a"), queue.job("b"))
    assert rq_queue.count == 2
    job = rq_queue.jobs[0]
    assert (job.id, job.get_status()) == (f"{KEY}_a_1", JobStatus.QUEUED)
    assert job.args[0]["id"] == "a"


def test_rq_sees_a_running_job(
    queue: Any,
    work: Callable[..., Any],
    rq_queue: rq.Queue,
    wait_until: Callable[..., Any],
) -> None:
    work("Actor")
    queue.put_one("a", do="sleep", seconds=1.0)
    registry = StartedJobRegistry(queue=rq_queue)
    assert wait_until(lambda: registry.get_job_ids()) == [f"{KEY}_a_1"]
    job = there(rq_queue.fetch_job(f"{KEY}_a_1"))
    (execution,) = wait_until(job.get_executions)  # written once a run has lasted 10 ms
    (worker,) = rq.Worker.all(queue=rq_queue)
    assert (worker.name, worker.get_state(), worker.queue_names()) == (NAME, "busy", [KEY])
    assert worker.get_current_executions() == [execution]
    assert worker.get_current_job_id() == job.id


def test_rq_sees_an_idle_worker_and_nothing_left(
    queue: Any, work: Callable[..., Any], rq_queue: rq.Queue, wait_until: Callable[..., Any]
) -> None:
    worker = work("Actor")
    queue.put_one("a", do="a")
    wait_until(lambda: queue.end("a"))
    wait_until(lambda: not queue.leftovers())
    (seen,) = wait_until(
        lambda: [w for w in rq.Worker.all(queue=rq_queue) if w.get_state() == "idle"]
    )
    assert seen.current_execution_count == 0
    worker.request_stop()
    wait_until(lambda: rq.Worker.count(queue=rq_queue) == 0)


def test_the_worker_registers_again_when_redis_has_lost_everything(
    work: Callable[..., Any],
    rq_queue: rq.Queue,
    redis_client: redis.Redis,
    wait_until: Callable[..., Any],
) -> None:
    work("Actor", lease=0.6)
    wait_until(lambda: rq.Worker.count(queue=rq_queue) == 1)
    redis_client.flushall()
    (worker,) = wait_until(lambda: rq.Worker.all(queue=rq_queue))
    assert worker.name == NAME
    assert worker.queue_names() == [KEY]
