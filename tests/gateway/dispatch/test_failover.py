"""Dispatch as a process, when Redis' old primary lives on as a replica and keeps its clients."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dispatch_process
from failover import Failover

from inference_contract import queues
from inference_gateway.background import progress

KEY = "ada_echo"


def test_all_loops_go_on_at_the_new_primary(
    failover: Failover,
    lab: Any,
    database_url: str,
    tmp_path: Path,
    wait_until: Callable[..., Any],
) -> None:
    environment = dispatch_process.environment(
        database_url, failover.url, tmp_path, SWEEP_SECONDS="0.2"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(dispatch_process.ARGV, env=environment, cwd=tmp_path, stderr=log)
    try:
        queue = queues.queue_key(KEY)
        lab.insert(age=60)
        wait_until(lambda: failover.old.llen(queue) == 1)
        wait_until(lambda: failover.old.zcard(progress.KEY) == len(progress.LOOPS))
        failover.demote()
        failover.promote()
        second = lab.insert(age=60)
        lab.redis = failover.new
        wait_until(lambda: failover.new.llen(queue) == 2)
        while (job := lab.claim()) is not None:
            lab.finish(job)
        wait_until(lambda: lab.row(second)["status"] == "succeeded")

        def gets_on() -> bool:
            scores: Any = failover.new.zrange(progress.KEY, 0, -1, withscores=True)
            return not progress.stalled(scores, failover.new.time())

        wait_until(gets_on)
    finally:
        process.kill()
        process.wait()
