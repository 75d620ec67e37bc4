"""A Redis that answers nothing, not even with a refusal, holds up one thread and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from inference_gateway.predictions import enqueuer as module
from inference_gateway.predictions.enqueuer import Enqueuer

MODEL = "ada/echo"
ROW: Any = {
    "id": "1",
    "attempt": 1,
    "token": "t",
    "input": {},
    "webhook_events": None,
    "held": False,
}


class Silent:
    """Stands for the way to a node that is gone: who asks waits, and then hears of nothing."""

    def __init__(self) -> None:
        self.asked = 0
        self.timeout = threading.Event()
        self.is_back = False

    def enqueue(self, model_id: str, jobs: Iterable[Any]) -> int:
        self.asked += 1
        self.timeout.wait()
        if self.is_back:
            return len(list(jobs))
        raise redis.TimeoutError("no answer")


def test_one_thread_asks_and_the_others_go_on(
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., Any],
) -> None:
    monkeypatch.setattr(module, "_AWAY_SECONDS", 0.0)
    silent, enqueuer = Silent(), Enqueuer(redis_client, max_open=10)
    enqueuer._jobs = silent  # type: ignore[assignment]
    silent.timeout.set()
    enqueuer.enqueue(MODEL, [ROW])
    silent.timeout.clear()
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(enqueuer.enqueue, MODEL, [ROW])
        wait_until(lambda: silent.asked == 2)
        other = pool.submit(enqueuer.enqueue, MODEL, [ROW])
        try:
            other.result(timeout=10)
            assert (silent.asked, asking.done()) == (2, False)
        finally:
            silent.is_back = True
            silent.timeout.set()
        asking.result()
        enqueuer.enqueue(MODEL, [ROW])
        assert silent.asked == 3
