"""The servers that everything rests on die while predictions come in."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from release import CLUSTER_DIR, Account, Release, kubectl, run
from traffic import Traffic


@pytest.mark.parametrize("server", ["valkey", "postgresql"])
def test_a_database_crashes(release: Release, traffic: Traffic, server: str) -> None:
    with traffic:
        start = time.monotonic()
        release.crash(server)
        print(f"{server} is back after {time.monotonic() - start:.1f} s")
        traffic.flows()
        print(f"predictions succeed again after {time.monotonic() - start:.1f} s")
    print(traffic.tally())


@pytest.mark.parametrize("server", ["valkey", "postgresql"])
def test_a_database_gets_another_pod(release: Release, traffic: Traffic, server: str) -> None:
    with traffic:
        start = time.monotonic()
        gone = release.kill(server)
        release.until_back(server, gone)
        print(f"{server} is back after {time.monotonic() - start:.1f} s")
        traffic.flows()
        print(f"predictions succeed again after {time.monotonic() - start:.1f} s")
    print(traffic.tally())


def test_predictions_go_on_without_the_api_server(account: Account, traffic: Traffic) -> None:
    """And when it is back, so does everything else."""
    pid = CLUSTER_DIR / "kube-apiserver.pid"
    if not pid.exists():
        pytest.skip(f"no API server of tests/cluster/up in {CLUSTER_DIR}")
    with traffic:
        os.kill(int(pid.read_text()), signal.SIGKILL)
        try:
            start = time.monotonic()
            traffic.flows()
            print(f"20 predictions without it, in {time.monotonic() - start:.1f} s")
        finally:
            run(str(CLUSTER_DIR / "start" / "kube-apiserver"))
        account.wait_until(_api_server_answers, 60, every=0.2)
        start = time.monotonic()
        change = '{"spec": {"description": "changed"}}'
        model = ("inferencemodel", "echo", "--type=merge", "-p")
        kubectl("-n", account.namespace, "patch", *model, change)
        url = f"/v1/models/{account.name}/echo"
        account.wait_until(lambda: account.api.get(url).json()["description"] == "changed", 60)
        print(f"the gateway sees a change {time.monotonic() - start:.1f} s later")
        traffic.flows()
    tally = traffic.tally()
    print(tally)
    assert tally.attempts == 1


def _api_server_answers() -> bool:
    argv = ["kubectl", "get", "--raw", "/readyz", "--request-timeout=2s"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
