"""A machine without room for all: owners share it evenly, and work on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference_contract.inferencemodel import Reason
from inference_contract.pods import RunnerPhase
from inference_operator.local.actions import Action, Refuse, Start, Stop, converge
from inference_operator.local.failures import Failure
from inference_operator.local.fair_shares import shares
from inference_operator.local.runners import Runner
from inference_operator.plan import RunnerPlan

NOW = 1000.0


@pytest.mark.parametrize(
    ("demand", "held", "given"),
    [
        ({}, {}, {}),
        ({"a": 3, "b": 2}, {}, {"a": 3, "b": 2}),
        ({"a": 1000, "b": 1}, {"a": 16}, {"a": 15, "b": 1}),
        ({"a": 1000, "b": 1000}, {"a": 16}, {"a": 8, "b": 8}),
        ({"a": 1000, "b": 3, "c": 1000}, {}, {"a": 7, "b": 3, "c": 6}),
        ({"a": 1000, "b": 1000, "c": 4}, {"b": 7}, {"a": 6, "b": 6, "c": 4}),
        ({"a": 0, "b": 20}, {}, {"a": 0, "b": 16}),
    ],
)
def test_shares(demand: dict[str, int], held: dict[str, int], given: dict[str, int]) -> None:
    assert shares(demand, held, 16) == given


def test_more_owners_than_runners() -> None:
    given = shares({f"o{number:02}": 5 for number in range(20)}, {"o19": 1}, 16)
    assert sum(given.values()) == 16
    assert given["o19"] == given["o00"] == 1


def _plan(model: str, replicas: int) -> RunnerPlan:
    return RunnerPlan(model, replicas, "hash", {}, {}, load_seconds=100, grace_seconds=30)


def _runners(model: str, count: int) -> list[Runner]:
    name = model.replace("/", "_")
    return [
        Runner(model, slot, f"{name}-{slot}", "hash", NOW - 10, 30, RunnerPhase.READY)
        for slot in range(count)
    ]


def _decide(
    runners: list[Runner], failures: dict[tuple[str, int], Failure] | None = None, **wanted: int
) -> list[Action]:
    desired = {f"{name}/m": _plan(f"{name}/m", replicas) for name, replicas in wanted.items()}
    return converge(desired, runners, failures or {}, NOW, 4)


def test_who_comes_first_does_not_take_all() -> None:
    plan = _plan("bob/m", 1)
    actions = _decide([], ada=1000, bob=1)
    assert [a for a in actions if isinstance(a, Start) and a.plan.model == "bob/m"] == [
        Start(plan, 0)
    ]
    assert sum(isinstance(action, Start) for action in actions) == 4


def test_who_has_all_gives_back_what_another_wants() -> None:
    runners = _runners("ada/m", 4)
    assert _decide(runners, ada=1000, bob=1) == [Stop(runners[3]), Refuse("bob/m"), Refuse("ada/m")]


def test_while_it_drains_no_second_one_is_stopped_and_then_the_other_starts() -> None:
    runners = _runners("ada/m", 4)
    draining = [*runners[:3], replace(runners[3], stop_by=NOW + 5)]
    assert _decide(draining, ada=1000, bob=1) == [Refuse("bob/m"), Refuse("ada/m")]
    assert _decide(runners[:3], ada=1000, bob=1) == [
        Start(_plan("bob/m", 1), 0),
        Refuse("ada/m"),
    ]


def test_two_who_want_all_have_half_each_and_nothing_moves() -> None:
    runners = [*_runners("ada/m", 2), *_runners("bob/m", 2)]
    assert _decide(runners, ada=1000, bob=1000) == [Refuse("ada/m"), Refuse("bob/m")]


def test_one_alone_has_the_whole_machine() -> None:
    assert sum(isinstance(action, Start) for action in _decide([], ada=1000)) == 4


def test_one_within_their_share_loses_nothing() -> None:
    runners = [*_runners("ada/m", 2), *_runners("bob/m", 2)]
    actions = _decide(runners, ada=2, bob=2, eve=0)
    assert actions == []


def test_a_model_that_keeps_crashing_does_not_take_turns_with_others() -> None:
    runners = _runners("ada/m", 3)
    failure = Failure("hash", Reason.CRASH_LOOP_BACK_OFF, "", 5, NOW - 1)
    # Its slot stays its own while it waits: nobody is stopped for it again.
    assert _decide(runners, {("bob/m", 0): failure}, ada=1000, bob=1) == [Refuse("ada/m")]
