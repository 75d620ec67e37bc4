"""`inference status`: processes with their memory, models, addresses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

from inference_contract import statefile
from inference_local.cli.context import DEFAULT_HOME, HomeOption, out
from inference_local.cli.errors import CliError
from inference_local.cli.terminal import program
from inference_local.home import Home

COLUMNS = ("PROCESS", "PID", "UP", "MEMORY", "RESTARTS", "METRICS")


def status(home: HomeOption = DEFAULT_HOME) -> None:
    """Processes, models, addresses. Exit code 1 if the server is not up."""
    from inference_local.cli import launch, models, render

    place = Home(home)
    state = launch.running(place) if place.root.exists() else None
    if state is None:
        raise CliError(f"not running in {place.root}: start it with `{program()} up`")
    render.table(COLUMNS, list(_processes(place, state)))
    out()
    out(f"state   {state['phase']}{': ' + state['message'] if state['message'] else ''}")
    out(f"url     {state['url']}")
    out(f"queues  rq info --url {state['redis_url']}")
    out(f"sql     psql '{state['database_url']}'")
    free = shutil.disk_usage(place.root).free / 1e9
    out(f"home    {place.root} ({free:.1f} GB free)")
    token = place.token()
    if token is None or not state["children"].get("gateway", {}).get("ready"):
        return
    from inference_local.cli.api import Api

    found = [models.row(m) for m in Api(state["url"], token).pages("/v1/models", 10_000)]
    if found:
        out()
        render.table(models.COLUMNS, found)


def _processes(home: Home, state: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    from inference_operator.local.runner_files import recorded

    yield _row("supervisor", state["pid"], state["started_at"], "", "")
    for name, child in state["children"].items():
        port = (statefile.read(home.run / f"{name}.json") or {}).get("port")
        if name == "gateway":
            metrics = f"{state['url']}/metrics"
        else:
            metrics = f"http://127.0.0.1:{port}/metrics" if port else ""
        restarts = str(child["restarts"])
        yield _row(name, child["pid"], child["started_at"], restarts, metrics)
    for launch, files in recorded(home.root):
        port = (statefile.read(files.state) or {}).get("port")
        metrics = f"http://127.0.0.1:{port}/metrics" if port else ""
        yield _row(f"runner {launch.model} {launch.slot}", launch.pid, None, "", metrics)


def _row(
    name: str, pid: int | None, since: float | None, restarts: str, metrics: str
) -> tuple[str, ...]:
    import psutil

    from inference_local.cli.render import duration

    try:
        process = psutil.Process(pid) if pid else None
        memory = f"{_memory(process, name) / 2**20:.0f} MiB" if process else "-"
        since = since or (process.create_time() if process else None)
    except psutil.Error:
        process, memory = None, "-"
    up = duration(time.time() - since) if since and process else "down"
    return name, str(pid or "-"), up, memory, restarts, metrics


def _memory(process: Any, name: str) -> int:
    """Proportional set size in bytes: shared pages count by their share, so that rows add up."""
    family = [process]
    if name not in ("supervisor", "operator"):  # Their children have rows of their own.
        family += process.children(recursive=True)
    return int(sum(member.memory_full_info().pss for member in family))
