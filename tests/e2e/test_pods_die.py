"""Pods that die while predictions come in: none is lost, none is answered wrongly."""

from __future__ import annotations

import time

from release import Account, Release, crash, is_ready, kubectl, restarts
from traffic import Traffic

from inference_contract.pods import LABEL_MODEL

NODE = "node-1"


def _ready(account: Account, count: int = 2) -> bool:
    return sum(map(is_ready, account.pods("echo"))) == count


def test_a_runner_is_deleted_by_force(account: Account, traffic: Traffic) -> None:
    with traffic:
        victim = account.pods("echo")[0]["metadata"]["name"]
        start = time.monotonic()
        select = ("-n", account.namespace, "delete", "pod", victim)
        kubectl(*select, "--force", "--grace-period=0")
        account.wait_until(lambda: _ready(account), 60, every=0.2)
        print(f"two pods again after {time.monotonic() - start:.1f} s")
        traffic.flows()
    print(traffic.tally())


def test_a_runner_is_killed(account: Account, traffic: Traffic) -> None:
    """In the midst of its work, without a word."""
    with traffic:
        pod = account.pods("echo")[0]
        start = time.monotonic()
        crash(pod)
        account.wait_until(lambda: restarts(account.pods("echo")[0]) > restarts(pod), 60, every=0.1)
        account.wait_until(lambda: _ready(account), 60, every=0.2)
        print(f"two pods again after {time.monotonic() - start:.1f} s")
        traffic.flows()
    print(traffic.tally())


def test_the_operator_is_killed(release: Release, account: Account, traffic: Traffic) -> None:
    """Predictions go on without it, and the next one acts."""
    with traffic:
        start = time.monotonic()
        gone = release.kill("operator")
        traffic.flows()
        release.until_back("operator", gone)
        print(f"the operator is ready again after {time.monotonic() - start:.1f} s")
        change = '{"spec": {"maxReplicas": 3, "minReplicas": 3}}'
        model = ("inferencemodel", "echo", "--type=merge", "-p")
        kubectl("-n", account.namespace, "patch", *model, change)
        account.wait_until(lambda: _ready(account, 3), 90, every=0.2)
        print(f"it acts again after {time.monotonic() - start:.1f} s")
        back = '{"spec": {"maxReplicas": 2, "minReplicas": 2}}'
        kubectl("-n", account.namespace, "patch", *model, back)
    print(traffic.tally())


def test_gateway_and_dispatch_are_killed(release: Release, traffic: Traffic) -> None:
    with traffic:
        for component in ("gateway", "dispatch"):
            start = time.monotonic()
            gone = release.kill(component)
            release.until_back(component, gone)
            print(f"{component} is back after {time.monotonic() - start:.1f} s")
            traffic.flows()
    print(traffic.tally())


def test_the_node_is_drained(account: Account, traffic: Traffic) -> None:
    """On one node the new pods have to wait for its return."""
    with traffic:
        start = time.monotonic()
        select = f"--pod-selector={LABEL_MODEL}=echo"
        try:
            kubectl("drain", NODE, select, "--delete-emptydir-data", "--timeout=60s")
            print(f"drained after {time.monotonic() - start:.1f} s")
        finally:
            kubectl("uncordon", NODE)
        account.wait_until(lambda: _ready(account), 60, every=0.2)
        print(f"two pods again after {time.monotonic() - start:.1f} s")
        traffic.flows()
    tally = traffic.tally()
    print(tally)
    assert tally.attempts == 1
