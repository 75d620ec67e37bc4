"""Which runners start and stop, from the actual and the desired ones: a pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference_contract.pods import RunnerPhase
from inference_operator.local.failures import Failure
from inference_operator.local.fair_shares import shares
from inference_operator.local.runners import Runner, Slot
from inference_operator.plan import LOAD_GRACE, RunnerPlan


@dataclass(frozen=True)
class Start:
    plan: RunnerPlan
    slot: int


@dataclass(frozen=True)
class Stop:
    """SIGTERM: the runner claims no more jobs, finishes its predictions, and exits."""

    runner: Runner


@dataclass(frozen=True)
class Kill:
    runner: Runner
    reason: str


@dataclass(frozen=True)
class Refuse:
    """This machine has no capacity for a wanted replica."""

    model: str


Action = Start | Stop | Kill | Refuse


def converge(
    desired: Mapping[str, RunnerPlan | None],
    runners: Sequence[Runner],
    failures: Mapping[Slot, Failure],
    now: float,
    capacity: int,
) -> list[Action]:
    """The actions to take now.

    A model never has more live runners, draining ones included, than wanted replicas: the runners
    of a changed model drain before new ones start, so that no second GPU is needed.

    When the capacity is too small for all, owners share it evenly: an owner above the share has
    runners drained and stopped.

    Args:
        desired: None keeps a model's runners as they are; runners of absent models stop.
        now: seconds of the monotonic clock.
        capacity: the most runners that this machine may run.
    """
    actions: list[Action] = []
    wanted: list[tuple[int, Start]] = []
    by_model: dict[str, list[Runner]] = {model: [] for model in desired}
    for runner in runners:
        by_model.setdefault(runner.model, []).append(runner)
    for model, live in sorted(by_model.items()):
        plan = desired.get(model)
        actions += _kills(plan, live, now)
        if plan is None and model in desired:
            continue
        actions += _stops(plan, live)
        if plan is not None:
            wanted += _starts(plan, live, failures, now)
    # Every model gets its first replica before any gets its second.
    wanted.sort(key=lambda item: item[0])
    granted, refused = _grant([start for _, start in wanted], desired, runners, capacity)
    actions += granted
    if refused:
        stopping = {action.runner.name for action in actions if isinstance(action, Stop)}
        actions += _make_room(refused, desired, runners, stopping, capacity)
    return [*actions, *dict.fromkeys(Refuse(start.plan.model) for start in refused)]


def _grant(
    wanted: Sequence[Start],
    desired: Mapping[str, RunnerPlan | None],
    runners: Sequence[Runner],
    capacity: int,
) -> tuple[list[Start], list[Start]]:
    """The new replicas that fit the capacity and their owner's share; and the others."""
    share = _shares(desired, runners, capacity)
    held = Counter(_owner(runner.model) for runner in runners)
    granted: list[Start] = []
    refused: list[Start] = []
    for start in wanted:
        owner = _owner(start.plan.model)
        if len(runners) + len(granted) < capacity and held[owner] < share[owner]:
            held[owner] += 1
            granted.append(start)
        else:
            refused.append(start)
    return granted, refused


def _make_room(
    refused: Sequence[Start],
    desired: Mapping[str, RunnerPlan | None],
    runners: Sequence[Runner],
    stopping: Collection[str],
    capacity: int,
) -> list[Stop]:
    """Stop runners of owners above their share, for owners below theirs who want more."""
    share = _shares(desired, runners, capacity)
    held = Counter(_owner(runner.model) for runner in runners)
    wanted = Counter(_owner(start.plan.model) for start in refused)
    missing = sum(min(count, max(0, share[owner] - held[owner])) for owner, count in wanted.items())
    active = [r for r in runners if r.stop_by is None and r.name not in stopping]
    replicas = Counter(runner.model for runner in active)
    mine = Counter(_owner(runner.model) for runner in active)
    missing -= len(runners) - len(active)  # these stop anyway
    stops: list[Stop] = []
    # Choose a runner of the model with the most, and prefer one that is not ready.
    while len(stops) < missing:
        over = [runner for runner in active if mine[owner := _owner(runner.model)] > share[owner]]
        if not over:
            break
        chosen = max(over, key=lambda r: (replicas[r.model], not r.is_ready, r.slot))
        active.remove(chosen)
        replicas[chosen.model] -= 1
        mine[_owner(chosen.model)] -= 1
        stops.append(Stop(chosen))
    return stops


def _shares(
    desired: Mapping[str, RunnerPlan | None], runners: Sequence[Runner], capacity: int
) -> Mapping[str, int]:
    """The share of each owner. A replica in its backoff counts as wanted: otherwise a model that
    keeps crashing would have the runners of others stopped again and again."""
    live = Counter(runner.model for runner in runners)
    demand = Counter[str]()
    for model in {*desired, *live}:
        plan = desired.get(model)
        demand[_owner(model)] += live[model] if plan is None else plan.replicas
    held = Counter(_owner(runner.model) for runner in runners)
    return Counter(shares(demand, held, capacity))


def _owner(model: str) -> str:
    return model.partition("/")[0]


def _kills(plan: RunnerPlan | None, live: Sequence[Runner], now: float) -> Iterator[Kill]:
    for runner in live:
        if runner.stop_by is not None:
            if now >= runner.stop_by:
                yield Kill(runner, f"still there {runner.grace_seconds:g} s after SIGTERM")
        elif plan and runner.hash == plan.hash and _is_late(runner, plan, now):
            yield Kill(runner, f"did not load within {plan.load_seconds:g} s")


def _is_late(runner: Runner, plan: RunnerPlan, now: float) -> bool:
    is_loading = runner.phase is RunnerPhase.LOADING
    return is_loading and now - runner.started >= plan.load_seconds + LOAD_GRACE


def _stops(plan: RunnerPlan | None, live: Sequence[Runner]) -> Iterator[Stop]:
    """Stop runners of another hash, then surplus ones: those that are not ready first."""
    active = [runner for runner in live if runner.stop_by is None]
    right = [runner for runner in active if plan and runner.hash == plan.hash]
    right.sort(key=lambda runner: (not runner.is_ready, runner.slot))
    kept = right[: plan.replicas] if plan else []
    return (Stop(runner) for runner in active if runner not in kept)


def _starts(
    plan: RunnerPlan, live: Sequence[Runner], failures: Mapping[Slot, Failure], now: float
) -> Iterator[tuple[int, Start]]:
    """New replicas, each with the number of replicas that the model has before it starts."""
    taken = {runner.slot for runner in live}
    missing = max(0, plan.replicas - len(live))
    free = [slot for slot in range(plan.replicas + len(taken)) if slot not in taken][:missing]
    for number, slot in enumerate(free, len(live)):
        failure = failures.get((plan.model, slot))
        if failure and failure.hash == plan.hash and now < failure.next_start:
            continue
        yield number, Start(plan, slot)
