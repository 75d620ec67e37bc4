"""The autoscaler, by hand-written expectations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_contract.inferencemodel import InferenceModelSpec
from inference_operator.scaling.decide import MAX_SILENCE, Gap, Sample, Why, decide, remember


def _spec(
    min: int = 0,
    max: int = 5,
    target: int = 10,
    delay: int = 60,
    idle: int = 300,
    mode: str = "Operator",
) -> InferenceModelSpec:
    return InferenceModelSpec.model_validate(
        {
            "type": "text-generation",
            "source": {"path": "/m"},
            "minReplicas": min,
            "maxReplicas": max,
            "autoscaling": {
                "mode": mode,
                "targetPerReplica": target,
                "scaleDownDelaySeconds": delay,
                "idleTimeoutSeconds": idle,
            },
        }
    )


def _seen(*stretches: tuple[int, int] | None) -> list[Sample | Gap]:
    """Readings, one a second from 0 on: (load, seconds), or None for a reading that failed."""
    readings: list[Sample | Gap] = []
    for stretch in stretches:
        load, seconds = stretch or (None, 1)
        for _ in range(seconds):
            at = float(len(readings))
            readings.append(Gap(at) if load is None else Sample(at, load - load // 2, load // 2))
    return readings


UP = [
    ("no load, nothing", _spec(), 0, [(0, 1)], (0, Why.STEADY)),
    ("the first prediction wakes it", _spec(), 0, [(0, 9), (1, 1)], (1, Why.SCALE_UP)),
    ("straight to what is needed", _spec(), 1, [(0, 9), (31, 1)], (4, Why.SCALE_UP)),
    ("exactly full", _spec(), 1, [(30, 1)], (3, Why.SCALE_UP)),
    ("no more than the maximum", _spec(), 1, [(999, 1)], (5, Why.LIMITED)),
    ("at the maximum", _spec(), 5, [(999, 1)], (5, Why.LIMITED)),
    ("no more than the maximum is needed", _spec(), 5, [(50, 1)], (5, Why.STEADY)),
    ("as needed", _spec(), 3, [(30, 99)], (3, Why.STEADY)),
    ("the minimum without load", _spec(min=2), 0, [(0, 1)], (2, Why.STEADY)),
    ("a raised minimum", _spec(min=3), 1, [(0, 999)], (3, Why.STEADY)),
    ("a lowered maximum", _spec(max=2), 5, [(999, 1)], (2, Why.LIMITED)),
    ("a lowered maximum, little load", _spec(max=2), 5, [(1, 99)], (1, Why.SCALE_DOWN)),
]
DOWN = [
    ("not yet", _spec(), 4, [(40, 9), (10, 60)], (4, Why.DELAYED)),
    ("after the delay", _spec(), 4, [(40, 9), (10, 62)], (1, Why.SCALE_DOWN)),
    ("the highest wish", _spec(), 4, [(40, 9), (1, 30), (20, 1), (1, 31)], (2, Why.SCALE_DOWN)),
    ("a load that flaps", _spec(), 4, [(40, 9), (1, 50), (40, 1), (1, 50)], (4, Why.DELAYED)),
    ("a lowered maximum is not delayed", _spec(max=3), 5, [(50, 9), (1, 1)], (3, Why.DELAYED)),
    ("without delay, at once", _spec(delay=0), 4, [(40, 9), (10, 1)], (1, Why.SCALE_DOWN)),
    ("never below the minimum", _spec(min=2), 4, [(0, 999)], (2, Why.SCALE_DOWN)),
    ("at the minimum", _spec(min=1), 1, [(0, 999)], (1, Why.STEADY)),
]  # fmt: skip
ZERO = [
    ("down to one, then it waits", _spec(), 4, [(40, 1), (0, 99)], (1, Why.IDLE)),
    ("not yet idle for long", _spec(), 1, [(1, 1), (0, 300)], (1, Why.IDLE)),
    ("idle for long enough", _spec(), 1, [(1, 1), (0, 301)], (0, Why.SCALE_DOWN)),
    ("one prediction in between", _spec(), 1, [(0, 200), (1, 1), (0, 200)], (1, Why.IDLE)),
    ("work in flight only", _spec(delay=0, idle=0), 1, [(0, 99), (1, 1)], (1, Why.STEADY)),
    ("no timeout, no delay", _spec(delay=0, idle=0), 1, [(1, 1), (0, 1)], (0, Why.SCALE_DOWN)),
    ("a delay beyond the timeout", _spec(idle=1), 1, [(1, 9), (0, 60)], (1, Why.DELAYED)),
    ("stays at zero", _spec(), 0, [(0, 999)], (0, Why.STEADY)),
]
UNSEEN = [
    ("a restart", _spec(), 3, [], (3, Why.UNKNOWN)),
    ("a restart, then one reading", _spec(), 3, [(0, 1)], (3, Why.DELAYED)),
    ("a restart, not idle for long", _spec(), 1, [(0, 299)], (1, Why.IDLE)),
    ("a new model while Redis is away", _spec(min=1), 0, [], (1, Why.UNKNOWN)),
    ("the last reading failed", _spec(), 3, [(0, 999), None], (3, Why.UNKNOWN)),
    ("nothing but failures", _spec(), 1, [None, None], (1, Why.UNKNOWN)),
    ("a failure within the delay", _spec(), 3, [(1, 99), None, (1, 59)], (3, Why.DELAYED)),
    ("a failure before the delay", _spec(), 3, [(1, 99), None, (1, 61)], (1, Why.SCALE_DOWN)),
    ("a failure within the timeout", _spec(), 1, [(0, 999), None, (0, 299)], (1, Why.IDLE)),
    ("up right after a failure", _spec(), 1, [None, (31, 1)], (4, Why.SCALE_UP)),
]
EXTERNAL = [
    ("somebody else scales up", _spec(mode="None"), 0, [(999, 1)], (0, Why.EXTERNAL)),
    ("somebody else scales down", _spec(mode="None"), 3, [(0, 999)], (3, Why.EXTERNAL)),
    ("beyond the bounds", _spec(min=2, mode="None"), 9, [], (9, Why.EXTERNAL)),
]


@pytest.mark.parametrize(
    ("spec", "current", "stretches", "expected"),
    [pytest.param(*row, id=name) for name, *row in UP + DOWN + ZERO + UNSEEN + EXTERNAL],
)
@pytest.mark.parametrize("condensed", [False, True])
def test_decisions(
    spec: InferenceModelSpec,
    current: int,
    stretches: Sequence[Any],
    expected: tuple[int, Why],
    condensed: bool,
) -> None:
    history = _seen(*stretches)
    now = history[-1].at if history else 0.0
    if condensed:
        history = _condense(history, spec)
    decision = decide(history, now, spec, current)
    assert (decision.replicas, decision.reason) == expected


def _condense(history: Sequence[Sample | Gap], spec: InferenceModelSpec) -> list[Sample | Gap]:
    condensed: list[Sample | Gap] = []
    for reading in history:
        condensed = remember(condensed, reading, spec)
    return condensed


def test_a_reading_of_long_ago_is_none() -> None:
    history = _seen((0, 999))
    now = history[-1].at + MAX_SILENCE + 0.1
    assert decide(history, now, _spec(), 3).reason is Why.UNKNOWN


def test_a_reading_holds_until_the_silence_is_too_long() -> None:
    history = _seen((0, 999))
    assert decide(history, history[-1].at + MAX_SILENCE, _spec(), 3).replicas == 0


def test_a_pause_of_the_operator_proves_nothing() -> None:
    """A machine that slept, or a process that was stopped, did not see an idle model."""
    history = [Sample(0, 0, 0), Sample(1000, 0, 0)]
    assert decide(history, 1000, _spec(), 3).replicas == 3


def test_a_week_of_silence_is_one_entry() -> None:
    assert len(_condense(_seen((5, 10), (0, 2000)), _spec())) == 1


def test_what_can_no_longer_matter_is_forgotten() -> None:
    falling = [(load, 1) for load in range(900, 0, -1)]
    assert len(_condense(_seen(*falling), _spec(delay=60, idle=10))) == 61


readings = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 4.0, MAX_SILENCE + 1]), st.none() | st.integers(0, 60)),
    min_size=1,
    max_size=60,
)


@given(readings, st.integers(0, 5), st.integers(0, 2), st.integers(0, 30), st.integers(0, 60))
def test_what_is_remembered_decides_like_all_that_was_seen(
    steps: list[tuple[float, int | None]], current: int, minimum: int, delay: int, idle: int
) -> None:
    spec = _spec(min=minimum, delay=delay, idle=idle)
    everything: list[Sample | Gap] = []
    remembered: list[Sample | Gap] = []
    now = 0.0
    for pause, load in steps:
        now += pause
        reading = Gap(now) if load is None else Sample(now, load, 0)
        everything.append(reading)
        remembered = remember(remembered, reading, spec)
        assert decide(remembered, now, spec, current) == decide(everything, now, spec, current)
        current = decide(remembered, now, spec, current).replicas
