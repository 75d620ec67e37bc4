"""A scaler that looks past steady models decides as one that judges each at every reading."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference_contract.inferencemodel import InferenceModel
from inference_operator.redis.connection import RedisConnection
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load, Loads
from inference_operator.scaling.scaler import Scaler

Reading = tuple[float, int | None, int]
"""Seconds since the one before, the load (None: Redis did not say), and the minimum."""

READINGS = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 4.0, 6.0, 30.0, 70.0]),
        st.one_of(st.none(), st.integers(0, 3), st.integers(0, 99)),
        st.sampled_from([0, 0, 3]),
    ),
    max_size=40,
)


def _model(minimum: int, target: int) -> InferenceModel:
    return InferenceModel.model_validate(
        {
            "metadata": {"name": "m", "namespace": "alice"},
            "spec": {
                "type": "text-generation",
                "source": {"path": "/m"},
                "minReplicas": minimum,
                "maxReplicas": 5,
                "autoscaling": {
                    "targetPerReplica": target,
                    "scaleDownDelaySeconds": 5,
                    "idleTimeoutSeconds": 8,
                },
            },
        }
    )


def _decisions(target: int, readings: Sequence[Reading], *, judge_each: bool) -> list[Decision]:
    scaler = Scaler(Loads(RedisConnection("unix:///nowhere")))
    models = {minimum: _model(minimum, target) for _, _, minimum in readings}
    now, found = 0.0, []
    for pause, load, minimum in readings:
        now += pause
        model = models[minimum]
        # Only the very same specification is passed over.
        read = {"alice/m": model.model_copy(deep=True) if judge_each else model}
        loads = {} if load is None else {"alice/m": Load(load, 0)}
        found.append(scaler.decide(read, loads, {"alice/m": 1}, now)["alice/m"])
    return found


@given(st.sampled_from([1, 4]), READINGS)
@example(1, [(1.0, 0, 3)] * 20 + [(1.0, 0, 0)])
@example(1, [(1.0, 0, 3)] * 5 + [(6.0, 0, 3)] + [(1.0, 0, 3)] * 3 + [(1.0, 0, 0)])
@example(4, [(1.0, 4, 0)] * 20 + [(1.0, 0, 0)] * 9)
def test_both_decide_the_same(target: int, readings: list[Reading]) -> None:
    quick = _decisions(target, readings, judge_each=False)
    assert quick == _decisions(target, readings, judge_each=True)


def test_a_steady_model_is_passed_over() -> None:
    decisions = _decisions(1, [(1.0, 0, 1)] * 9, judge_each=False)
    assert decisions[-1] is decisions[0]


def test_a_decision_remembers_why_the_number_last_changed() -> None:
    readings: list[Reading] = [(0.5, 0, 0), (0.5, 9, 0), (0.5, 9, 0), (6.0, 9, 0), (1.0, None, 0)]
    first, up, *later = _decisions(3, readings, judge_each=False)
    assert (up.replicas, up.reason, up.changed_by) == (3, Why.SCALE_UP, None)
    assert first.replicas != up.replicas
    assert [decision.changed_by for decision in later] == [Why.SCALE_UP] * 3
    assert Why.UNKNOWN in [decision.reason for decision in later]


@pytest.mark.parametrize(
    ("load", "target", "replicas"),
    [
        (Load(0, 0, 0), 4, 0),
        (Load(3, 0, 500), 4, 3),  # as many as have a job
        (Load(1, 2, 500), 4, 3),
        (Load(8, 4, 500), 4, 5),  # the most
        (Load(3, 0, 1), 4, 1),
        (Load(3, 0, 2), 4, 2),
        (Load(0, 0, 500), 4, 1),  # its first job is on its way
    ],
    ids=str,
)
def test_what_is_held_has_replicas_for_what_is_on_the_queue(
    load: Load, target: int, replicas: int
) -> None:
    models = {"alice/m": _model(0, target)}
    scaler = Scaler(Loads(RedisConnection("unix:///nowhere")))
    found = scaler.decide(models, {"alice/m": load}, {"alice/m": 0}, 1.0)
    assert found["alice/m"].replicas == replicas
