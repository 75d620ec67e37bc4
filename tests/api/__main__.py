"""`make api-fuzz`: schemathesis against the gateway, until REQUESTS were answered.

Environment: REQUESTS, SEED (the first one; a round each, counted up), EXAMPLES (of an operation, a
round). SIGTERM ends it after this round. Exit code 1 if anything was found.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from fuzzed import SETTINGS, Fuzzed
from inference_stack import Stack

_KEPT = Path("/tmp/inference-api-fuzz")


def main() -> int:
    requests = int(os.environ.get("REQUESTS", "100000"))
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    examples = os.environ.get("EXAMPLES", "100")
    with tempfile.TemporaryDirectory(prefix="inference-api-fuzz-") as folder:
        stack = Stack(Path(folder) / "home", **SETTINGS)
        try:
            return _attack(stack.start(), Path(folder), requests, seed, examples)
        finally:
            stack.stop()


def _attack(stack: Stack, folder: Path, requests: int, seed: int, examples: str) -> int:
    fuzzed = Fuzzed(stack, folder)
    found = 0
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    phases: tuple[str, ...] = ()
    while (answered := fuzzed.answers().total()) < requests and not stopped.is_set():
        began = time.monotonic()
        said = fuzzed.attack("--seed", str(seed), "--max-examples", examples, *phases)
        phases = ("--phases", "fuzzing,stateful")  # The others are without chance.
        new = fuzzed.answers().total() - answered
        seconds = time.monotonic() - began
        verdict = "something was found" if said else "nothing found"
        print(f"seed {seed}: {new} requests, {seconds:.0f} s, {verdict}{said}", flush=True)
        found += bool(said)
        seed += 1
    _report(fuzzed.answers())
    health = fuzzed.health()
    if health["status"] != "ok" or found:
        print(f"\n/health: {health}\nThe logs: {_KEPT}")
        shutil.rmtree(_KEPT, ignore_errors=True)
        shutil.copytree(stack.home / "logs", _KEPT)
        return 1
    return 0


def _report(answers: Counter[tuple[str, str]]) -> None:
    methods = sorted({method for method, _ in answers})
    print(f"\n| status | {' | '.join(methods)} |\n|---|{'---|' * len(methods)}")
    for status in sorted({status for _, status in answers}):
        cells = (str(answers[method, status] or "") for method in methods)
        print(f"| {status} | {' | '.join(cells)} |")
    print(f"\n{answers.total()} requests")


if __name__ == "__main__":
    sys.exit(main())
