"""The rules of others, by what their sources say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaling.rules import Keda, Knative, Ours
from scaling.simulate import View, World, simulate
from scaling.traces import Prediction


class Load:
    """What a rule sees of a load that only the test changes; pods start at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.replicas = 0
        self._sum = 0.0

    def __call__(
        self, rule: Keda | Knative, seconds: float, queued: int = 0, in_flight: int = 0
    ) -> Iterator[int]:
        """Looks for so many seconds; the wish of each."""
        for _ in range(round(seconds / rule.every)):
            view = View(self.replicas, self.replicas, queued, in_flight, self._sum)
            self.replicas = rule.wanted(self.now, view)
            yield self.replicas
            self.now += rule.every
            self._sum += (queued + in_flight) * rule.every


@pytest.fixture
def load() -> Load:
    return Load()


def _keda() -> Keda:
    return Keda(target=4, max_replicas=20)


def _knative() -> Knative:
    return Knative(concurrency=10, max_replicas=20)  # Target: 7.


def test_keda_activates_one_then_the_hpa_doubles_what_is_or_gives_four(load: Load) -> None:
    assert list(load(_keda(), 75, queued=400)) == [1, 4, 8, 16, 20]


def test_keda_polls_every_second_look_of_the_hpa(load: Load) -> None:
    rule = _keda()
    assert list(load(rule, 15)) == [0]
    assert list(load(rule, 30, queued=1)) == [0, 1]


def test_the_hpa_holds_within_its_tolerance(load: Load) -> None:
    load.replicas = 10
    assert list(load(_keda(), 30, queued=43)) == [10, 10]
    assert list(load(_keda(), 15, queued=45)) == [12]


def test_the_hpa_goes_down_to_the_highest_of_five_minutes(load: Load) -> None:
    rule = _keda()
    load.replicas = 8
    assert list(load(rule, 15, queued=32)) == [8]
    assert list(load(rule, 330, queued=1)) == [8] * 20 + [1, 1]


def test_for_keda_what_is_in_flight_is_no_load(load: Load) -> None:
    rule = _keda()
    load.replicas = 4
    assert list(load(rule, 15, queued=16)) == [4]
    wishes = list(load(rule, 345, in_flight=16))
    assert wishes == [4] * 20 + [1, 0, 0]  # 300 s of stabilization, then of cooldown.


def test_knative_panics_when_six_seconds_ask_for_twice_the_pods(load: Load) -> None:
    rule = _knative()
    load.replicas = 2
    assert set(load(rule, 60, in_flight=14)) == {2}
    # Averages of 6 s: 14, 28.7, 43.3 …; 4 pods are twice those that are ready.
    assert list(load(rule, 8, in_flight=58)) == [2, 5, 7, 9]
    # No pod goes before the panic is 60 s old, and then no more than half of them at once.
    assert list(load(rule, 60, in_flight=7)) == [9] * 28 + [4, 2]


def test_knative_follows_the_average_of_a_minute_in_peace(load: Load) -> None:
    rule = _knative()
    load.replicas = 4
    assert set(load(rule, 62, in_flight=28)) == {4}
    assert list(load(rule, 30, in_flight=14))[-1] == 4  # 21.5 a pod of 7
    assert list(load(rule, 30, in_flight=14))[-1] == 3
    assert list(load(rule, 4, in_flight=14))[-1] == 2


def test_knative_halves_at_most(load: Load) -> None:
    rule = _knative()
    load.replicas = 16
    assert list(load(rule, 6, in_flight=7)) == [8, 4, 2]


def test_knative_waits_out_its_grace_before_zero(load: Load) -> None:
    rule = _knative()
    load.replicas = 1
    assert set(load(rule, 60, in_flight=1)) == {1}
    wishes = list(load(rule, 100))
    assert wishes.index(0) * rule.every == pytest.approx(90, abs=rule.every)


def test_knative_begins_a_new_window_after_a_minute_at_zero(load: Load) -> None:
    rule = _knative()
    assert list(load(rule, 2, in_flight=1)) == [1]
    assert list(load(rule, 160))[-1] == 0
    assert list(load(rule, 4, queued=70)) == [10, 10]


def test_ours_is_the_autoscaler() -> None:
    """Up within a second, down one by one minute after, and to zero after five."""
    world = World(start_seconds=20, concurrency=4)
    outcome = simulate([Prediction(10.5, 5)] * 8, Ours(world), world, 1000)
    assert outcome.waits == [20.5] * 8
    assert outcome.cold_starts == 1
    # Both from 11 on; the load ends at 36: one goes at 97, the other at 336.
    assert outcome.pod_seconds == pytest.approx((97 - 11) + (336 - 11), abs=2)
