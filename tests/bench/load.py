"""wrk, the load generator, and what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


class Load(NamedTuple):
    rate: float
    """Answers per second."""
    p50: float
    """Milliseconds, as p99."""
    p99: float
    answers: int
    failures: int
    """Answers outside 2xx and 3xx, and socket errors."""


def require_wrk() -> None:
    """Raises SystemExit with what to do when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("the load generator is missing: apt-get install wrk")


def parse(output: str) -> Load:
    """Read the report of `wrk --latency`."""

    def number(pattern: str) -> float:
        found = re.search(pattern, output)
        return float(found[1]) if found else 0.0

    def milliseconds(percentile: int) -> float:
        found = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
        return float(found[1]) * _UNITS[found[2]] if found else float("nan")

    errors = re.search(r"Socket errors: (.*)", output)
    failures = sum(map(int, re.findall(r"\d+", errors[1]))) if errors else 0
    failures += int(number(r"Non-2xx or 3xx responses: (\d+)"))
    answers = int(number(r"(\d+) requests in"))
    rate = number(r"Requests/sec:\s+([\d.]+)")
    return Load(rate, milliseconds(50), milliseconds(99), answers, failures)


def run(url: str, body: Any, headers: Mapping[str, str], *, connections: int, seconds: int) -> Load:
    """POST the same body over and over on so many connections, from one thread."""
    lines = ['wrk.method = "POST"', f"wrk.body = [[{json.dumps(body)}]]"]
    for name, value in {"Content-Type": "application/json", **headers}.items():
        lines.append(f'wrk.headers["{name}"] = "{value}"')
    with tempfile.TemporaryDirectory(prefix="inference-bench-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text("\n".join(lines))
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
        argv += ["--latency", "-s", str(script), url]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    return parse(done.stdout)
