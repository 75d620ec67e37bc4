"""How fast a server and a runner come up, and what an idle server holds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import yaml

import report
from inference_contract import statefile
from inference_contract.pods import RunnerEnv, RunnerPhase
from processes import memory_mib
from stack import Stack, running

EXAMPLE = Path(__file__).parents[2] / "crds" / "examples" / "smollm2.yaml"


def measure() -> None:
    report.title("start, warm, and memory without models")
    with running() as (stack,):
        # The first start made the database and the files that Python compiles.
        ups = []
        for _ in range(report.ROUNDS):
            stack.down()
            ups.append(stack.up())
        report.target("inference up to ready", report.middle(ups), 8, " s")
        time.sleep(5)
        _print_memory(stack)
        _runners(stack)


def _print_memory(stack: Stack) -> None:
    sizes = memory_mib(stack.groups())
    rows = [(name, f"{rss:.0f}", f"{pss:.0f}") for name, (rss, pss) in sorted(sizes.items())]
    report.table(("process", "RSS MiB", "PSS MiB"), rows)
    # Resident as the machine sees it: what several processes share is there once.
    report.target("in all, PSS", sum(pss for _, pss in sizes.values()), 400, " MiB")
    report.target("gateway, RSS", sizes["gateway"][0], 120, " MiB")


def _runners(stack: Stack) -> None:
    spec = yaml.safe_load(EXAMPLE.read_text())["spec"]
    stack.wait_until_ready(stack.apply("smollm2", **{**spec, "minReplicas": 1}))
    seconds = []
    for turn in range(report.ROUNDS):
        # Another version is another runner. Its process is new, its weights are converted.
        changed = {**spec, "minReplicas": 1, "version": f"{turn + 2}"}
        seconds.append(_seconds_to_ready(stack, changed))
    report.target("a runner of SmolLM2 to ready", report.middle(seconds), 4, " s")


def _seconds_to_ready(stack: Stack, spec: dict[str, Any]) -> float:
    """From the start of the new runner's process until it says that it is ready."""
    before = set(stack.groups().get("runner", []))
    stack.apply("smollm2", **spec)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for pid in set(stack.groups().get("runner", [])) - before:
            process = psutil.Process(pid)
            file = Path(process.environ()[RunnerEnv.STATE_FILE])
            while process.is_running() and time.monotonic() < end:
                if (statefile.read(file) or {}).get("phase") == RunnerPhase.READY:
                    return time.time() - process.create_time()
                time.sleep(0.01)
        time.sleep(0.05)
    raise SystemExit("no new runner became ready within 120 s")
