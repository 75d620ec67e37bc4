"""The work queue under kopf."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.work_queue import FIRST_RETRY, MAX_RETRY, Schedule, WorkQueue

A, B = ("alice", "a"), ("alice", "b")


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(resync=100, jitter=lambda: 0.5)


def test_the_one_that_waits_longest_comes_first(schedule: Schedule) -> None:
    schedule.put(B, 2)
    schedule.put(A, 1)
    assert [schedule.take(5), schedule.take(5), schedule.take(5)] == [A, B, None]


def test_a_key_is_there_once(schedule: Schedule) -> None:
    schedule.put(A, 1)
    schedule.put(A, 2)
    assert [schedule.take(5), schedule.take(5)] == [A, None]


def test_nothing_comes_before_it_is_due(schedule: Schedule) -> None:
    schedule.put(A, 3)
    assert schedule.take(2.9) is None
    assert schedule.next_due() == 3


def test_an_earlier_time_wins(schedule: Schedule) -> None:
    schedule.put(A, 300)
    schedule.put(A, 1)
    assert schedule.next_due() == 1
    assert schedule.take(1) == A
    assert schedule.next_due() is None


def test_a_key_is_in_flight_once_and_looked_at_again(schedule: Schedule) -> None:
    schedule.put(A, 1)
    assert schedule.take(1) == A
    schedule.put(A, 2)
    assert schedule.take(5) is None
    schedule.done(A, 6)
    assert schedule.take(6) == A


def test_every_key_comes_back(schedule: Schedule) -> None:
    schedule.put(A, 1)
    schedule.take(1)
    schedule.done(A, 2)
    assert schedule.next_due() == 102


def test_a_key_may_come_back_earlier(schedule: Schedule) -> None:
    schedule.put(A, 1)
    schedule.take(1)
    schedule.done(A, 2, 5)
    assert schedule.next_due() == 7


def test_a_key_to_forget_does_not(schedule: Schedule) -> None:
    schedule.put(A, 1)
    schedule.take(1)
    schedule.done(A, 2, None)
    assert schedule.next_due() is None
    assert len(schedule) == 0


def test_a_key_to_forget_that_was_put_meanwhile_does(schedule: Schedule) -> None:
    schedule.put(A, 1)
    schedule.take(1)
    schedule.put(A, 2)
    schedule.done(A, 3, None)
    assert schedule.take(3) == A


def test_errors_are_tried_again_after_growing_pauses(schedule: Schedule) -> None:
    pauses = []
    for _ in range(12):
        schedule.put(A, 0)
        schedule.take(0)
        pauses.append(schedule.failed(A, 0))
    assert pauses[:4] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY, 8 * FIRST_RETRY]
    assert pauses[-1] == MAX_RETRY


def test_success_forgives(schedule: Schedule) -> None:
    for end in (schedule.failed, schedule.failed, schedule.done):
        schedule.put(A, 0)
        schedule.take(0)
        end(A, 0)
    schedule.put(A, 0)
    schedule.take(0)
    assert schedule.failed(A, 0) == FIRST_RETRY


@pytest.mark.parametrize(("chance", "due"), [(0.0, 80), (1.0, 120)])
def test_keys_of_one_moment_do_not_stay_together(chance: float, due: float) -> None:
    schedule = Schedule(resync=100, jitter=lambda: chance)
    schedule.put(A, 0)
    schedule.take(0)
    schedule.done(A, 0)
    assert schedule.next_due() == pytest.approx(due)


class Work:
    """Notes what it gets; `gate` holds it up, `error` is raised."""

    def __init__(self) -> None:
        self.calls: list[Key] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.again: float | None = inf

    def __call__(self, key: Key) -> float | None:
        self.calls.append(key)
        self.gate.wait(10)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.again


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def queue(work: Work) -> Iterator[WorkQueue]:
    queue = WorkQueue(work, workers=2, resync=3600)
    queue.start()
    yield queue
    work.gate.set()
    queue.close()


def test_threads_work_it_off(queue: WorkQueue, work: Work, wait_until: Callable[..., Any]) -> None:
    queue.put(A)
    queue.put(B)
    wait_until(lambda: sorted(work.calls) == [A, B])
    assert len(queue) == 2


def test_one_thread_a_key(queue: WorkQueue, work: Work, wait_until: Callable[..., Any]) -> None:
    work.gate.clear()
    queue.put(A)
    wait_until(lambda: work.calls == [A])
    queue.put(A)
    queue.put(B)
    wait_until(lambda: work.calls == [A, B])  # The second thread passes over A.
    assert queue.silence() > 0
    work.gate.set()
    wait_until(lambda: work.calls == [A, B, A])
    wait_until(lambda: queue.silence() == 0)


def test_it_says_whether_all_work_has_ended(
    queue: WorkQueue, work: Work, wait_until: Callable[..., Any]
) -> None:
    work.gate.clear()
    queue.put(A)
    wait_until(lambda: work.calls == [A])
    assert not queue.close(0)
    work.gate.set()
    assert queue.close()


def test_an_error_is_tried_again(
    queue: WorkQueue,
    work: Work,
    wait_until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inference_operator.cluster.work_queue.FIRST_RETRY", 0.01)
    work.error = ValueError("no")
    queue.put(A)
    wait_until(lambda: work.calls == [A, A])


def test_what_is_gone_is_forgotten(
    queue: WorkQueue, work: Work, wait_until: Callable[..., Any]
) -> None:
    work.again = None
    queue.put(A)
    wait_until(lambda: work.calls == [A] and len(queue) == 0)


def test_what_wants_another_look_gets_it(
    queue: WorkQueue, work: Work, wait_until: Callable[..., Any]
) -> None:
    work.again = 0.01
    queue.put(A)
    wait_until(lambda: len(work.calls) > 2)
