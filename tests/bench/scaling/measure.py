"""`make bench PARTS=scaling`: days of load against our rule, KEDA's and Knative's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import report
from scaling import traces
from scaling.rules import Keda, Knative, Ours
from scaling.simulate import Outcome, Rule, World, simulate

WORLD = World()
DRAINING = replace(WORLD, grace_seconds=330)
"""As long as our runners have: spec.timeouts.drainSeconds, more than any prediction runs."""
SECONDS = traces.DAY + traces.HOUR
"""With an hour of silence after the day, so that whatever waits comes to its turn."""

DAYS: Mapping[str, tuple[Callable[[], traces.Trace], World]] = {
    "an office's day": (traces.office_day, WORLD),
    "every hour a burst": (traces.cron, WORLD),
    "a spike after silence": (traces.spike, WORLD),
    "a trickle": (traces.trickle, WORLD),
    "heavy-tailed runs": (traces.heavy_tail, WORLD),
    "heavy-tailed runs, a grace period of 330 s": (traces.heavy_tail, DRAINING),
}
RULES: Mapping[str, Callable[[World], Rule]] = {
    "ours": Ours,
    "ours, whichever pod": lambda world: Ours(world, spares_busy=False),
    "KEDA, queue length": lambda world: Keda(world.concurrency, world.max_replicas),
    "Knative, concurrency": lambda world: Knative(world.concurrency, world.max_replicas),
}
_HEADER = (
    *("rule", "wait p50", "p99", "longest", "pod-hours"),
    *("cold starts", "busy pods retired", "predictions lost"),
)


def measure() -> None:
    report.title(
        f"scaling, simulated: pods start in {WORLD.start_seconds:g} s, run {WORLD.concurrency} "
        f"predictions at once, have {WORLD.grace_seconds:g} s of grace; at most "
        f"{WORLD.max_replicas}"
    )
    begin = time.monotonic()
    for name, (make_trace, world) in DAYS.items():
        trace = make_trace()
        busy = sum(prediction.runs for prediction in trace) / world.concurrency / traces.HOUR
        print(f"\n{name}: {len(trace):,} predictions, {busy:.1f} pod-hours of work", flush=True)
        outcomes = {
            rule: simulate(trace, make(world), world, SECONDS) for rule, make in RULES.items()
        }
        report.table(_HEADER, [(rule, *_row(outcome)) for rule, outcome in outcomes.items()])
    print(f"\nsimulated in {time.monotonic() - begin:.0f} s", flush=True)


def _row(outcome: Outcome) -> tuple[str, ...]:
    waits = (f"{outcome.wait(quantile):,.1f} s" for quantile in (0.5, 0.99, 1))
    counts = outcome.cold_starts, outcome.retired_busy, outcome.lost
    hours = outcome.pod_seconds / traces.HOUR
    return *waits, f"{hours:,.1f}", *(f"{count:,}" for count in counts)
