"""From what is to what shall be: a pure function that decides which runners start and stop."""

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
    """SIGTERM: it claims no more work, ends what it has, and goes."""

    runner: Runner


@dataclass(frozen=True)
class Kill:
    runner: Runner
    reason: str


@dataclass(frozen=True)
class Refuse:
    """There is no room for a replica that shall be."""

    model: str


Action = Start | Stop | Kill | Refuse


def converge(
    desired: Mapping[str, RunnerPlan | None],
    runners: Sequence[Runner],
    failures: Mapping[Slot, Failure],
    now: float,
    capacity: int,
) -> list[Action]:
    """What to do now.

    A model never has more live runners than it shall have replicas, draining ones included: a
    changed model drains first and starts then, so that it needs no second GPU.

    When there is not room for all, owners share it evenly: who has more than their share gives it
    back, and what runs there is finished first.

    Args:
        desired: None leaves a model's runners as they are; those of absent models stop.
        now: seconds of the monotonic clock.
        capacity: runners that this machine has room for.
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
    """The new replicas that there is room for, within their owner's share; and the others."""
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
    """Owners who have more than their share give it back to those who have less and want more."""
    share = _shares(desired, runners, capacity)
    held = Counter(_owner(runner.model) for runner in runners)
    wanted = Counter(_owner(start.plan.model) for start in refused)
    missing = sum(min(count, max(0, share[owner] - held[owner])) for owner, count in wanted.items())
    active = [r for r in runners if r.stop_by is None and r.name not in stopping]
    replicas = Counter(runner.model for runner in active)
    mine = Counter(_owner(runner.model) for runner in active)
    missing -= len(runners) - len(active)  # what goes anyway
    stops: list[Stop] = []
    # One of the model that has the most, and one that is not ready yet before one that is.
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
    """By owner. A replica that waits for its backoff is wanted too: a model that keeps crashing
    must not have the runners of others stopped again and again."""
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
    """Runners of another hash, and those too many: the ones that are not ready yet go first."""
    active = [runner for runner in live if runner.stop_by is None]
    right = [runner for runner in active if plan and runner.hash == plan.hash]
    right.sort(key=lambda runner: (not runner.is_ready, runner.slot))
    kept = right[: plan.replicas] if plan else []
    return (Stop(runner) for runner in active if runner not in kept)


def _starts(
    plan: RunnerPlan, live: Sequence[Runner], failures: Mapping[Slot, Failure], now: float
) -> Iterator[tuple[int, Start]]:
    """New replicas, each with the number of replicas that the model would have before it."""
    taken = {runner.slot for runner in live}
    missing = max(0, plan.replicas - len(live))
    free = [slot for slot in range(plan.replicas + len(taken)) if slot not in taken][:missing]
    for number, slot in enumerate(free, len(live)):
        failure = failures.get((plan.model, slot))
        if failure and failure.hash == plan.hash and now < failure.next_start:
            continue
        yield number, Start(plan, slot)
