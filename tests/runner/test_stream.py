"""Classes whose predict yields: a worker on a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from inference_runner.engines.base import Delta, Request, StepEngine

Work = Callable[..., Any]
WaitUntil = Callable[..., Any]


def test_items_come_one_by_one_and_all_at_the_end(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    work("Counter")
    queue.put_one("a", to=3)
    end = wait_until(lambda: queue.end("a"))
    assert (end["output"], end["streamed"]) == ([0, 1, 2], True)
    assert queue.stream("a") == [
        {"type": "output", "output": 0, "item": True},
        {"type": "output", "output": 1, "item": True},
        {"type": "output", "output": 2, "item": True},
        {"type": "succeeded"},
    ]


def test_stream_entries_are_numbered_under_the_attempt(
    work: Work, queue: Any, redis_client: Any, wait_until: WaitUntil
) -> None:
    work("Counter")
    queue.put_one("a", 2, to=1)
    wait_until(lambda: queue.end("a"))
    key = "ann_sample:stream:a"
    assert [entry for entry, _ in redis_client.xrange(key)] == [b"2-1", b"2-2"]
    assert 590 < redis_client.ttl(key) <= 600


def test_a_stale_attempt_cannot_write_the_stream(
    work: Work, queue: Any, redis_client: Any, wait_until: WaitUntil
) -> None:
    redis_client.xadd("ann_sample:stream:a", {"d": "{}"}, id="2-1")
    work("Counter")
    queue.put_one("a", 1, to=2)
    wait_until(lambda: queue.end("a"))
    assert queue.stream("a") == [{}]


def test_raising_half_way_keeps_what_came(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    work("Counter")
    queue.put(queue.job("a", to=2, **{"raise": True}))
    end = wait_until(lambda: queue.end("a"))
    assert (end["output"], end["error"]) == ([0, 1], "ValueError: no more numbers")
    assert queue.stream("a")[-1] == {"type": "failed", "error": "ValueError: no more numbers"}


def test_cancel_stops_between_items(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    work("Counter")
    queue.put_one("a", to=10_000, pause=0.01)
    wait_until(lambda: queue.stream("a"))
    queue.cancel("a")
    end = wait_until(lambda: queue.end("a"))
    assert end["type"] == "canceled"
    assert end["output"] == list(range(len(end["output"])))


def test_it_is_stopped_when_its_time_is_over(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    work("Counter", timeouts={"predictSeconds": 1})
    queue.put_one("a", to=10_000, pause=0.01)
    end = wait_until(lambda: queue.end("a"))
    assert (end["type"], end["error_code"]) == ("failed", "prediction_timeout")
    queue.put_one("b", to=1)
    assert wait_until(lambda: queue.end("b"))["type"] == "succeeded"


def test_the_time_in_which_redis_stands_still_is_not_the_models(
    work: Work, queue: Any, redis_client: Any, wait_until: WaitUntil
) -> None:
    work("Counter", timeouts={"predictSeconds": 3})
    queue.put_one("a", to=50, pause=0.01)
    wait_until(lambda: queue.stream("a"))
    redis_client.execute_command("CLIENT", "PAUSE", 4500, "ALL")
    end = wait_until(lambda: queue.end("a"))
    assert (end["type"], end["output"]) == ("succeeded", list(range(50)))


def test_a_webhook_that_wants_output_gets_it_all(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    work("Counter")
    queue.put(queue.job("a", notify=("output",), to=60, pause=0.02))
    wait_until(lambda: queue.end("a"))
    outputs = [e["output"] for e in queue.events("a") if e["type"] == "output"]
    assert 2 <= len(outputs) <= 4
    assert all(output == list(range(len(output))) for output in outputs)


class Whole(StepEngine):
    """Says objects, and at the end what they come to."""

    def add(self, request: Request) -> None:
        self._id = request.id

    def remove(self, id: str) -> None: ...

    def step(self) -> list[Delta]:
        return [Delta(self._id, {"n": 1}), Delta(self._id, {"n": 2}, done=True, whole={"sum": 3})]


def test_objects_are_items_of_the_stream_and_their_whole_is_the_output(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    work("Actor", Whole())
    queue.put_one("a")
    end = wait_until(lambda: queue.end("a"))
    assert (end["output"], end["streamed"]) == ({"sum": 3}, True)
    assert queue.stream("a") == [
        {"type": "output", "output": {"n": 1}, "item": True},
        {"type": "output", "output": {"n": 2}, "item": True},
        {"type": "succeeded"},
    ]


class Together(StepEngine):
    """Says at each step how many are active; a request takes as many steps as it asks for."""

    slots = 3
    is_text = True

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def add(self, request: Request) -> None:
        self._left[request.id] = request.inputs["steps"]

    def remove(self, id: str) -> None:
        del self._left[id]

    def step(self) -> list[Delta]:
        active = len(self._left)
        deltas = []
        for name in list(self._left):
            self._left[name] -= 1
            done = self._left[name] <= 0
            if done:
                del self._left[name]
            deltas.append(Delta(name, str(active), done))
        return deltas


@pytest.mark.parametrize(
    ("crashes", "outputs"),
    [([0, 0, 0, 0], ["33", "3322", "33", "2211"]), ([0, 1], ["11", "1111"])],
    ids=["a free slot is taken between steps", "what a runner died of is alone"],
)
def test_requests_join_and_leave(
    work: Work, queue: Any, wait_until: WaitUntil, crashes: list[int], outputs: list[str]
) -> None:
    jobs = [
        queue.job(f"p{n}", crashes=died, steps=len(output))
        for n, (died, output) in enumerate(zip(crashes, outputs, strict=True))
    ]
    queue.put(*jobs)
    work("Actor", Together())
    wait_until(lambda: all(queue.end(job["id"]) for job in jobs))
    assert [queue.end(job["id"])["output"] for job in jobs] == outputs


class Breaks(Together):
    """Its device breaks in the second step; `told`: as the rows' errors, else the step raises."""

    def __init__(self, *, told: bool) -> None:
        super().__init__()
        self._told, self._steps = told, 0

    def check(self) -> None:
        if self._steps > 1:
            raise RuntimeError("CUDA error: device-side assert triggered")

    def step(self) -> list[Delta]:
        self._steps += 1
        try:
            self.check()
        except RuntimeError as error:
            if not self._told:
                raise
            return [Delta(name, done=True, error=error) for name in self._left]
        return super().step()


@pytest.mark.parametrize("told", [True, False])
def test_of_several_in_an_engine_that_breaks_each_is_given_back_as_a_suspect(
    work: Work, queue: Any, wait_until: WaitUntil, told: bool
) -> None:
    queue.put(queue.job("a", steps=3), queue.job("b", steps=3))
    worker = work("Actor", Breaks(told=told))
    for name in "ab":
        wait_until(lambda name=name: any(e["type"] == "returned" for e in queue.events(name)))
        assert [e.get("suspect") for e in queue.events(name) if e["type"] == "returned"] == [True]
        assert queue.end(name) is None
    assert worker.context.is_broken


class Prefills(Together):
    """Works on an old request for a while, then long for a newcomer."""

    def step(self) -> list[Delta]:
        time.sleep(2.0 if len(self._left) > 1 else 0.05)
        return super().step()


def test_a_newcomer_may_take_the_time_that_an_old_run_has_not_got(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    work("Actor", Prefills(), timeouts={"predictSeconds": 3})
    queue.put(queue.job("old", steps=1000))
    wait_until(lambda: queue.events("old"))
    time.sleep(1.5)  # what is left of its time is less than the next step takes
    queue.put(queue.job("new", steps=1))
    assert wait_until(lambda: queue.end("new"))["type"] == "succeeded"
    assert wait_until(lambda: queue.end("old"))["error_code"] == "prediction_timeout"
