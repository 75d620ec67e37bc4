"""From what is to what shall be: a pure function that decides which runners start and stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference_contract.pods import RunnerPhase
from inference_operator.failures import Failure
from inference_operator.plan import RunnerPlan
from inference_operator.runners import Runner, Slot

LOAD_GRACE = 30.0
"""Seconds beyond loadSeconds: a runner has its own watchdog, which can say more than we can."""


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
    room = max(0, capacity - len(runners))
    actions += [start for _, start in wanted[:room]]
    refused = dict.fromkeys(Refuse(start.plan.model) for _, start in wanted[room:])
    return [*actions, *refused]


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
