"""From observed to desired."""

from __future__ import annotations

from dataclasses import replace

from inference_contract.inferencemodel import Reason
from inference_contract.pods import RunnerPhase
from inference_operator.local.actions import Action, Kill, Refuse, Start, Stop, converge
from inference_operator.local.failures import Failure
from inference_operator.local.runners import Runner, Slot
from inference_operator.plan import RunnerPlan

NOW = 1000.0


def _plan(model: str = "alice/m", replicas: int = 1, hash: str = "new") -> RunnerPlan:
    return RunnerPlan(model, replicas, hash, {}, {}, load_seconds=100, grace_seconds=30)


def _runner(
    slot: int = 0, hash: str = "new", phase: RunnerPhase = RunnerPhase.READY, **changes: float
) -> Runner:
    runner = Runner("alice/m", slot, f"alice_m-{slot}-x", hash, NOW - 10, 30, phase)
    return replace(runner, **changes)  # type: ignore[arg-type]  # floats only


def _decide(
    plan: RunnerPlan | None,
    *runners: Runner,
    failures: dict[Slot, Failure] | None = None,
    capacity: int = 9,
) -> list[Action]:
    desired = {plan.model: plan} if plan else {}
    return converge(desired, runners, failures or {}, NOW, capacity)


def _failure(hash: str = "new", at: float = NOW - 1, count: int = 3) -> Failure:
    return Failure(hash, Reason.CRASH_LOOP_BACK_OFF, "", count, at)


def test_what_is_as_it_shall_be_is_left_alone() -> None:
    assert _decide(_plan(), _runner()) == []


def test_missing_replicas_start_in_free_slots() -> None:
    plan = _plan(replicas=3)
    assert _decide(plan, _runner(1)) == [Start(plan, 0), Start(plan, 2)]


def test_too_many_replicas_stop_and_those_that_are_not_ready_first() -> None:
    loading, ready, other = _runner(0, phase=RunnerPhase.LOADING), _runner(1), _runner(2)
    assert _decide(_plan(replicas=1), loading, ready, other) == [Stop(loading), Stop(other)]


def test_to_zero() -> None:
    assert _decide(_plan(replicas=0), _runner()) == [Stop(_runner())]


def test_the_runner_of_a_deleted_model_stops() -> None:
    assert _decide(None, _runner()) == [Stop(_runner())]


def test_the_runner_of_an_unknown_document_is_left_alone() -> None:
    assert converge({"alice/m": None}, [_runner()], {}, NOW, 9) == []


def test_an_old_runner_stops_and_nothing_starts_beside_it() -> None:
    old = _runner(hash="old")
    assert _decide(_plan(), old) == [Stop(old)]


def test_nothing_starts_while_the_old_one_drains() -> None:
    assert _decide(_plan(), _runner(hash="old", stop_by=NOW + 5)) == []


def test_each_old_runner_that_is_gone_makes_room_for_a_new_one() -> None:
    plan = _plan(replicas=2)
    assert _decide(plan, _runner(0, hash="old", stop_by=NOW + 5)) == [Start(plan, 1)]


def test_a_draining_runner_is_not_stopped_twice() -> None:
    assert _decide(_plan(replicas=0), _runner(stop_by=NOW + 5)) == []


def test_who_outstays_its_grace_is_killed() -> None:
    late = _runner(stop_by=NOW)
    assert _decide(None, late) == [Kill(late, "still there 30 s after SIGTERM")]


def test_who_loads_for_too_long_is_killed() -> None:
    late = _runner(phase=RunnerPhase.LOADING, started=NOW - 130)
    assert _decide(_plan(), late) == [Kill(late, "did not load within 100 s")]
    slow = _runner(phase=RunnerPhase.LOADING, started=NOW - 129)
    assert _decide(_plan(), slow) == []


def test_a_failed_slot_waits_for_its_backoff() -> None:
    assert _decide(_plan(), failures={("alice/m", 0): _failure()}) == []


def test_a_failed_slot_starts_again_after_its_backoff() -> None:
    plan = _plan()
    assert _decide(plan, failures={("alice/m", 0): _failure(at=NOW - 4)}) == [Start(plan, 0)]


def test_a_changed_model_does_not_wait() -> None:
    plan = _plan()
    assert _decide(plan, failures={("alice/m", 0): _failure("old")}) == [Start(plan, 0)]


def test_one_failed_slot_does_not_hold_the_others() -> None:
    plan = _plan(replicas=2)
    assert _decide(plan, failures={("alice/m", 0): _failure()}) == [Start(plan, 1)]


def test_every_model_gets_its_first_replica_before_any_gets_its_second() -> None:
    one, other = _plan("a/a", 3), _plan("b/b", 2)
    actions = converge({"a/a": one, "b/b": other}, [], {}, NOW, 3)
    assert actions == [Start(one, 0), Start(other, 0), Start(one, 1), Refuse("b/b"), Refuse("a/a")]


def test_draining_runners_take_room() -> None:
    plan = _plan("b/b")
    runners = [_runner(stop_by=NOW + 5)]
    assert converge({"b/b": plan}, runners, {}, NOW, 1) == [Refuse("b/b")]


def _of(model: str, slot: int, phase: RunnerPhase = RunnerPhase.READY) -> Runner:
    return replace(_runner(slot, phase=phase), model=model, name=f"{model}-{slot}")


def test_who_has_too_much_gives_it_back_from_the_model_that_has_the_most() -> None:
    m, n, x = _plan("alice/m", 3), _plan("alice/n", 1), _plan("bob/x", 2)
    runners = [_of("alice/m", 0), _of("alice/m", 1), _of("alice/m", 2), _of("alice/n", 0)]
    desired = {plan.model: plan for plan in (m, n, x)}
    actions = converge(desired, runners, {}, NOW, 4)
    assert actions == [Stop(runners[2]), Stop(runners[1]), Refuse("bob/x")]


def test_a_runner_that_is_not_ready_goes_before_one_that_is() -> None:
    loading = RunnerPhase.LOADING
    runners = [_of("alice/m", 0, loading), _of("alice/m", 1)]
    desired = {"alice/m": _plan("alice/m", 2), "bob/x": _plan("bob/x", 1)}
    assert converge(desired, runners, {}, NOW, 2) == [Stop(runners[0]), Refuse("bob/x")]


def test_what_goes_anyway_makes_room_for_one_of_two() -> None:
    runners = [_of("alice/m", slot) for slot in range(4)]
    runners[0] = replace(runners[0], stop_by=NOW + 9)
    desired = {"alice/m": _plan("alice/m", 4), "bob/x": _plan("bob/x", 2)}
    actions = converge(desired, runners, {}, NOW, 4)
    assert actions == [Stop(runners[3]), Refuse("bob/x")]


def test_a_model_that_is_left_alone_keeps_its_part() -> None:
    """Its document is not valid: nothing of it stops, and others start."""
    runners = [_of("alice/m", 0), _of("alice/m", 1)]
    other = _plan("bob/x", 1)
    actions = converge({"alice/m": None, "bob/x": other}, runners, {}, NOW, 3)
    assert actions == [Start(other, 0)]


def test_all_models_of_an_owner_have_one_share() -> None:
    plans = [_plan("alice/m", 1), _plan("alice/n", 1), _plan("bob/x", 2), _plan("bob/y", 1)]
    desired = {plan.model: plan for plan in plans}
    actions = converge(desired, [], {}, NOW, 4)
    starts = [action.plan.model for action in actions if isinstance(action, Start)]
    assert sorted(starts) == ["alice/m", "alice/n", "bob/x", "bob/y"]
    assert [action for action in actions if isinstance(action, Refuse)] == [Refuse("bob/x")]
