"""`make campaign`: predictions of every kind under faults of every kind; are the promises kept?

Environment: SEED (the first one), SEEDS (how many), PREDICTIONS and FAULTS (of each seed), ONLY (a
part of the faults' names), SHOW (violations at most). Exit code 1 if a promise was broken.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path

from bystander import Bystander
from callers import Callers
from faults import ALL, DEADLY, HARMLESS, REDIS_ERRORS, NotNow
from judge import Violation, judge
from ledger import Death, Ledger
from receivers import receiving
from world import Overdue, World, started

_WHOLE_WITHIN = 60
_ENDED_WITHIN = 120
SHOWN = int(os.environ.get("SHOW", "20"))
_KEPT = Path("/tmp/inference-campaign")
Recoveries = defaultdict[str, list[float]]
"""Fault → of each time that it happened, seconds until all was whole again."""


def main() -> int:
    first = int(os.environ.get("SEED", "1"))
    seeds = range(first, first + int(os.environ.get("SEEDS", "1")))
    predictions = int(os.environ.get("PREDICTIONS", "1000"))
    faults = int(os.environ.get("FAULTS", "50"))
    only = os.environ.get("ONLY", "")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    total: Counter[str] = Counter()
    kinds: Recoveries = defaultdict(list)
    failed: dict[int, list[Violation]] = {}
    for seed in seeds:
        violations, counts, happened = campaign(seed, predictions, faults, only)
        total.update(counts)
        for name, seconds in happened.items():
            kinds[name] += seconds
        if violations:
            failed[seed] = violations
    _report(total, kinds, failed)
    return 1 if failed else 0


def campaign(
    seed: int, predictions: int, faults: int, only: str
) -> tuple[list[Violation], Counter[str], Recoveries]:
    """One stack, one seed: violations, reported ends, and the faults that happened."""
    ledger = Ledger()
    happened: Recoveries = defaultdict(list)
    chance = random.Random(seed)
    began = time.monotonic()
    with ExitStack() as opened:
        world = opened.enter_context(started())
        hooks = opened.enter_context(receiving(ledger))
        callers = Callers(world, ledger, str(seed), hooks)
        bystander = Bystander(world, ledger)
        names = _deal([name for name in ALL if only in name], chance)
        done = 0
        for number in range(faults):
            share = predictions * (number + 1) // faults
            callers.allow(share - done)
            done = share
            name = next(names)
            own = random.Random(f"{seed} {number}")
            possible = _happens(name, world, ledger, bystander, own)
            recovery = _recovers(name, world, ledger, bystander)
            if possible:
                happened[name].append(recovery)
        callers.finish()
        _settle(world, ledger)
        violations = judge(world.evidence(), ledger)
        if violations:
            _keep(world, ledger, violations, seed)
    ledger.counts["predictions"] = len(ledger.calls)
    seconds = time.monotonic() - began
    print(
        f"seed {seed}: {len(ledger.calls)} predictions, {sum(map(len, happened.values()))} faults, "
        f"{len(ledger.claims) + len(ledger.deliveries)} ends told, {len(violations)} violations, "
        f"{seconds:.0f} s",
        flush=True,
    )
    return violations, ledger.counts, happened


def _deal(names: Sequence[str], chance: random.Random) -> Iterator[str]:
    """In random order, each once before any is repeated."""
    while True:
        yield from chance.sample(names, len(names))


def _happens(
    name: str, world: World, ledger: Ledger, bystander: Bystander, chance: random.Random
) -> bool:
    """Apply the fault for a while; False if that was not possible."""
    ledger.happens(f"{name} begins")
    began = time.time()
    try:
        watching = bystander.watching(name) if name in HARMLESS else nullcontext()
        with watching, ALL[name](world, chance):
            pass
    except (NotNow, *REDIS_ERRORS) as error:
        ledger.count(f"not possible: {name}")
        ledger.happens(f"{name} is not possible: {error!r}")
        return False
    except (AssertionError, Overdue) as error:
        ledger.complain(f"{name}: {error}")
    finally:
        if name in DEADLY:
            ledger.die(Death(began, time.time()))
    return True


def _recovers(name: str, world: World, ledger: Ledger, bystander: Bystander) -> float:
    """Wait until the server has recovered, so that the next fault starts clean. Returns seconds."""
    ledger.happens(f"{name} is over")
    began = time.monotonic()
    try:
        world.until(
            lambda: world.is_healthy() and bystander.is_served(),
            _WHOLE_WITHIN,
            f"health is ok, and a bystander is served, after {name}",
        )
    except Overdue as error:
        ledger.complain(str(error))
    return time.monotonic() - began


def _settle(world: World, ledger: Ledger) -> None:
    """Wait for the ends, and for the webhooks."""
    try:
        world.until(lambda: not world.open_predictions(), _ENDED_WITHIN, "all have ended")
        world.until(lambda: not world.pending_webhooks(), _ENDED_WITHIN, "all webhooks were sent")
    except Overdue as error:
        ledger.complain(str(error))


def _keep(world: World, ledger: Ledger, violations: list[Violation], seed: int) -> None:
    """What a campaign that found something leaves: logs, its history, and what is blamed."""
    target = _KEPT / f"seed-{seed}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(world.home / "logs", target)
    (target / "history.txt").write_text("\n".join(ledger.history) + "\n")
    blamed = "\n".join(map(str, violations))
    (target / "violations.txt").write_text(blamed + "\n")
    rows = [row for row in world.whole_rows() if row["id"] in blamed]
    heard = [claim for claim in ledger.claims if claim.prediction in blamed]
    told = [delivery for delivery in ledger.deliveries if delivery.prediction in blamed]
    evidence = {"rows": rows, "claims": heard, "deliveries": told}
    (target / "evidence.json").write_text(json.dumps(evidence, default=asdict, indent=1))
    print(f"  its logs, history and evidence: {target}", flush=True)


def _report(total: Counter[str], kinds: Recoveries, failed: dict[int, list[Violation]]) -> None:
    """The tables, and last what was violated: of a long log people see the end."""
    print("\n| fault | times | seconds until all was whole, at most |\n|---|---|---|")
    for name in ALL:
        if seconds := kinds.get(name):
            print(f"| {name} | {len(seconds)} | {max(seconds):.1f} |")
    print("\n| what clients saw | times |\n|---|---|")
    for name, count in sorted(total.items()):
        print(f"| {name} | {count} |")
    print("" if failed else "\nno violations")
    for seed, violations in failed.items():
        print(f"seed {seed}: {len(violations)} violations")
        for violation in violations[:SHOWN]:
            print(f"  {violation}")


if __name__ == "__main__":
    sys.exit(main())
