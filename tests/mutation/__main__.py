"""`make mutate`: are the tests of the pure decisions able to fail?

mutmut changes each function of the files of `targets.py` in one place after the other, and runs
the tests that call it. A mutant that they do not notice is an assertion that is missing, or a
change without effect. Not mutated are decorated functions, class bodies, constants and log lines.

Environment: ONLY (a part of a folder's name), SAMPLE (so many mutants of each folder, by chance but
always the same ones), SHOW=0 (no diffs of the survivors). Exit code 1 if less than 90 % of a
folder's mutants are caught; those of `equivalent.py` do not count.

It takes a second or less of one core for each mutant: run a part with ONLY while you write tests.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from equivalent import EQUIVALENT
from targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
MUTMUT = str(Path(sys.executable).with_name("mutmut"))
SOURCE_ROOTS = ("crds", "gateway", "operator", "runner")
GOAL = 0.9
CAUGHT = ("killed", "timeout", "segfault")
PLUGINS = "pytest_asyncio.plugin,pytest_timeout,_hypothesis_pytestplugin,pure"
CONFIGURATION = r"""
[tool.mutmut]
source_paths = {packages}
only_mutate = {sources}
also_copy = {others}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = [
  "--hypothesis-profile=mutate", "-p", "no:cacheprovider", "-p", "no:unraisableexception",
]
do_not_mutate_patterns = ['\blog\.\w+\(']
timeout_multiplier = 20
"""
# What `mutmut run` does first, and only then knows the mutants' names.
MUTATE = """
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.Path("mutants").mkdir()
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(1)
"""
# `mutmut show` for many: each alone takes a second.
DIFFS = """
import json
import sys
from mutmut.mutation.diff_apply import find_mutant, get_diff_for_mutant
found = {name: get_diff_for_mutant(name, path=find_mutant(name).path) for name in sys.argv[1:]}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Outcome:
    mutants: int
    survivors: dict[str, str]
    """Each one's diff, by its name at mutmut."""
    seconds: float

    @property
    def caught(self) -> int:
        return self.mutants - len(self.survivors)

    @property
    def share(self) -> float:
        return self.caught / self.mutants


def main() -> int:
    only = os.environ.get("ONLY", "")
    sample = int(os.environ.get("SAMPLE", "0"))
    outcomes: dict[str, Outcome] = {}
    for target in TARGETS:
        if only in target.folder:
            print(f"== {target.folder}", flush=True)
            outcomes[target.folder] = mutated(target, sample)
            print(_row(target.folder, outcomes[target.folder]), flush=True)
    if not outcomes:
        print(f"ONLY={only} is in no name of: {', '.join(target.folder for target in TARGETS)}")
        return 2
    _report(outcomes, show=os.environ.get("SHOW") != "0")
    return 1 if any(outcome.share < GOAL for outcome in outcomes.values()) else 0


def mutated(target: Target, sample: int) -> Outcome:
    """What becomes of each mutant of a target, in a copy of the repository.

    Args:
        sample: at most so many of them; 0: all.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="inference-mutate-") as folder:
        copy = Path(folder)
        _copy(copy, target)
        _run(copy, sys.executable, "-c", MUTATE)
        names = [name for name in sorted(_statuses(copy)) if _function(name) not in target.acting]
        if 0 < sample < len(names):
            names = random.Random(target.folder).sample(names, sample)
        _run(copy, MUTMUT, "run", "--max-children", "1", *names)
        statuses = _statuses(copy)
        alive = [name for name in names if statuses[name] not in CAUGHT]
        diffs = json.loads(_run(copy, sys.executable, "-c", DIFFS, *alive).splitlines()[-1])
    survivors = {name: diff for name, diff in diffs.items() if not _is_equivalent(name, diff)}
    equivalents = len(alive) - len(survivors)
    return Outcome(len(names) - equivalents, survivors, time.monotonic() - start)


def _statuses(copy: Path) -> dict[str, str]:
    lines = _run(copy, MUTMUT, "results", "--all", "true").splitlines()
    return dict(line.strip().rsplit(": ", 1) for line in lines if "__mutmut_" in line)


def _function(mutant: str) -> str:
    return mutant.rpartition(".")[2].partition("__mutmut_")[0]


def _is_equivalent(mutant: str, diff: str) -> bool:
    function = mutant.partition("__mutmut_")[0]
    added = [line[1:].strip() for line in diff.splitlines() if re.match(r"\+(?!\+)", line)]
    return any((function, line) in EQUIVALENT for line in added)


def _copy(copy: Path, target: Target) -> None:
    """The packages side by side: mutmut takes a file's path for its module's name."""
    packages = []
    for package in (found for root in SOURCE_ROOTS for found in (ROOT / root).glob("inference_*")):
        shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        packages.append(package.name)
    for name in ("tests", "crds"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "pyproject.toml").read_text() + CONFIGURATION.format(
        packages=packages,
        sources=target.sources,
        others=["crds"],
        tests=[f"tests/{test}" for test in target.tests],
    )
    (copy / "pyproject.toml").write_text(text)


def _run(copy: Path, *command: str) -> str:
    """Raises: SystemExit: with what it said, when it failed."""
    done = subprocess.run(
        command,
        cwd=copy,
        env={
            **os.environ,
            # To look for plugins takes longer than most of the tests.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": PLUGINS,
            "PYTHONPATH": str(Path(__file__).parent),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout[-4000:])
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def _report(outcomes: dict[str, Outcome], show: bool) -> None:
    for outcome in outcomes.values() if show else ():
        for name, diff in outcome.survivors.items():
            print(f"# {name}\n{diff}")
    print(f"\n{'folder':42} mutants  caught   share  seconds")
    for folder, outcome in outcomes.items():
        print(_row(folder, outcome))


def _row(folder: str, outcome: Outcome) -> str:
    return (
        f"{folder:42} {outcome.mutants:7} {outcome.caught:7} {outcome.share:7.1%}"
        f" {outcome.seconds:8.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
