from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from scaling.measure import DAYS
from scaling.traces import DAY, HOUR, LONGEST_RUN, Trace, cron, heavy_tail, office_day


@pytest.mark.parametrize("make", {make for make, _ in DAYS.values()})
def test_a_day_is_in_order_and_the_same_again(make: Callable[[], Trace]) -> None:
    trace = make()
    assert trace == make()
    assert trace == sorted(trace, key=lambda prediction: prediction.arrives)
    assert trace[0].arrives >= 0
    assert trace[-1].arrives < DAY
    assert all(0 < prediction.runs <= LONGEST_RUN for prediction in trace)


def test_an_office_pauses_for_lunch() -> None:
    hours = Counter(int(at // HOUR) for at, _ in office_day())
    assert hours[12] < 0.6 * min(hours[10], hours[14])
    assert hours[3] < 100
    assert hours.total() == pytest.approx(100_000, rel=0.05)


def test_cron_leaves_the_rest_of_the_hour_alone() -> None:
    assert Counter(int(at // HOUR) for at, _ in cron()) == dict.fromkeys(range(24), 200)


def test_a_few_runs_are_most_of_the_work() -> None:
    runs = sorted(run for _, run in heavy_tail())
    assert sum(runs[-len(runs) // 10 :]) > 0.4 * sum(runs)
