"""The simulator, on traces short enough to reckon by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from scaling.simulate import Outcome, View, World, simulate
from scaling.traces import Prediction

WORLD = World(start_seconds=20, concurrency=2, grace_seconds=30, max_replicas=5)


class Plan:
    """Replicas by the second from which they are wanted; 0 before the first."""

    def __init__(
        self, wanted: Mapping[float, int], *, wakes: bool = False, spares_busy: bool = False
    ) -> None:
        self.every = 1.0
        self.wakes = wakes
        self.spares_busy = spares_busy
        self.views: dict[float, View] = {}
        self._wanted = wanted

    def wanted(self, now: float, view: View) -> int:
        self.views[now] = view
        return next((self._wanted[at] for at in sorted(self._wanted)[::-1] if at <= now), 0)


def _run(predictions: Sequence[tuple[float, float]], plan: Plan, seconds: float = 100) -> Outcome:
    return simulate([Prediction(*prediction) for prediction in predictions], plan, WORLD, seconds)


def test_a_day_without_work_costs_nothing() -> None:
    assert _run([], Plan({})) == Outcome()


def test_the_first_waits_for_the_pod_to_start() -> None:
    outcome = _run([(3, 5)], Plan({4: 1}))
    assert outcome == Outcome(waits=[21], pod_seconds=96, cold_starts=1)


def test_work_that_finds_a_slot_does_not_wait() -> None:
    assert _run([(50, 5), (51, 5)], Plan({0: 1})).waits == [0, 0]


def test_what_waits_longest_is_taken_first() -> None:
    outcome = _run([(0, 10), (1, 10), (2, 10), (3, 10)], Plan({0: 1}))
    assert outcome.waits == [19, 20, 27, 28]


def test_no_more_pods_than_there_may_be() -> None:
    assert _run([], Plan({0: 9}), 10).pod_seconds == 5 * 10


def test_work_wakes_a_rule_that_is_in_its_path() -> None:
    waits = [_run([(3.5, 5)], Plan({3.2: 1}, wakes=wakes)).waits for wakes in (True, False)]
    assert waits == [[20], [20.5]]


def test_an_idle_pod_ends_at_once() -> None:
    assert _run([(25, 5)], Plan({0: 1, 40: 0})) == Outcome([0], pod_seconds=40, cold_starts=1)


def test_a_busy_pod_ends_with_its_last_prediction_and_takes_no_other() -> None:
    outcome = _run([(25, 5), (25, 30), (41, 1)], Plan({0: 1, 40: 0}))
    expected = Outcome([0, 0], pod_seconds=55, cold_starts=1, retired_busy=1, lost=1)
    assert outcome == expected


def test_what_outlasts_the_grace_period_is_lost() -> None:
    outcome = _run([(25, 50), (25, 44)], Plan({0: 1, 40: 0}), 200)
    assert (outcome.lost, outcome.retired_busy, outcome.pod_seconds) == (1, 1, 70)


def test_pods_that_are_not_ready_go_first() -> None:
    outcome = _run([(25, 10)], Plan({0: 1, 30: 2, 31: 1}))
    assert (outcome.pod_seconds, outcome.retired_busy) == (100 + 1, 0)


@pytest.mark.parametrize(("spares_busy", "retired_busy"), [(False, 1), (True, 0)])
def test_idle_pods_go_first_if_somebody_says_which_they_are(
    spares_busy: bool, retired_busy: int
) -> None:
    """Of two pods the older one is idle, for its prediction was short."""
    plan = Plan({0: 1, 10: 2, 45: 1}, spares_busy=spares_busy)
    assert _run([(40, 1), (40, 15)], plan).retired_busy == retired_busy


def test_what_a_rule_sees() -> None:
    plan = Plan({0: 2, 30: 1}, spares_busy=True)
    _run([(0, 20), (0, 20), (0, 20), (0, 20), (0, 5)], plan, 60)
    assert plan.views[10] == View(replicas=2, ready=0, queued=5, in_flight=0, load_seconds=50)
    assert plan.views[30] == View(replicas=2, ready=2, queued=1, in_flight=4, load_seconds=150)
    assert plan.views[31] == View(replicas=1, ready=1, queued=1, in_flight=4, load_seconds=153)


def test_quantiles_are_nearest_ranks() -> None:
    outcome = Outcome(waits=[float(number) for number in range(1, 101)])
    assert [outcome.wait(quantile) for quantile in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
