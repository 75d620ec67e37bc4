"""A Redis that answers nothing, not even with a refusal, holds up one batch and no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import redis
from narrow import decoded
from prometheus_client import REGISTRY

from inference_contract import queues
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_gateway.predictions.creating import enqueuer as module
from inference_gateway.predictions.creating.enqueuer import Enqueuer

MODEL = "ada/echo"
QUEUE = queues.queue_key("ada_echo")


def _row(name: str = "1", size: int = 2) -> Any:
    rest = {"attempt": 1, "token": "t", "webhook_events": None, "held": False}
    return {**rest, "id": name, "input": {}, "input_bytes": size, "crashes": 0}


class Silent:
    """Stands for the way to a node that is gone: who asks waits, and then hears of nothing."""

    def __init__(self) -> None:
        self.asked = 0
        self.timeout = threading.Event()
        self.is_back = False

    def has_rung(self, model_id: str) -> bool:
        return False

    def enqueue(self, model_id: str, jobs: Iterable[Any]) -> int:
        self.asked += 1
        self.timeout.wait()
        if self.is_back:
            return len(list(jobs))
        raise redis.TimeoutError("no answer")


async def test_one_asks_and_the_others_go_on(
    enqueuer: Enqueuer, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(module, "_AWAY_SECONDS", 0.0)
    silent = Silent()
    monkeypatch.setattr(JobQueue, "has_rung", lambda _, model_id: silent.has_rung(model_id))
    monkeypatch.setattr(JobQueue, "enqueue", lambda _, *what: silent.enqueue(*what))
    silent.timeout.set()
    await enqueuer.enqueue(MODEL, [_row()])
    silent.timeout.clear()
    asking = asyncio.create_task(enqueuer.enqueue(MODEL, [_row()]))
    await eventually(lambda: silent.asked == 2)
    try:
        await asyncio.wait_for(enqueuer.enqueue(MODEL, [_row()]), 10)
        assert (silent.asked, asking.done()) == (2, False)
    finally:
        silent.is_back = True
        silent.timeout.set()
    await asking
    await enqueuer.enqueue(MODEL, [_row()])
    assert silent.asked == 3


async def test_jobs_are_put_by_threads_and_without_them(
    enqueuer: Enqueuer, redis_client: redis.Redis
) -> None:
    """On a thread what is large, and the first of a model; and those of a Redis that has lost our
    script."""
    for number, size in enumerate((2, 2, 10**6, 2)):
        await enqueuer.enqueue(MODEL, [_row(str(number), size)])
    redis_client.script_flush()
    await enqueuer.enqueue(MODEL, [_row("4")])
    names = map(decoded, redis_client.lrange(QUEUE, 0, -1))
    waiting = [queues.parse_job_id(name)[1] for name in names]
    assert waiting == ["0", "1", "2", "3", "4"]


async def test_a_redis_that_was_restarted_is_asked_again_at_once(
    enqueuer: Enqueuer, redis_client: redis.Redis
) -> None:
    for number in range(3):
        await enqueuer.enqueue(MODEL, [_row(str(number))])
        redis_client.client_kill_filter(_type="normal", skipme=True)
    assert redis_client.llen(QUEUE) == 3


def _not_enqueued() -> float:
    return REGISTRY.get_sample_value("inference_predictions_not_enqueued_total") or 0


async def test_a_redis_that_stands_still_costs_its_time_once(
    enqueuer: Enqueuer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is refused, nothing raised: the relay puts these jobs on their queue."""
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    before = _not_enqueued()
    await enqueuer.enqueue(MODEL, [_row("0")])
    redis_client.client_pause(1000, all=True)
    await enqueuer.enqueue(MODEL, [_row("1")])
    await enqueuer.enqueue(MODEL, [_row("2")])
    assert _not_enqueued() - before == 2
