"""A model changes, for better and for worse, while predictions come in."""

from __future__ import annotations

import time
from typing import Any

from release import Account, Release
from traffic import Traffic

Spec = dict[str, Any]


def _progress(account: Account, name: str) -> str:
    """Reason of the model's condition Progressing."""
    conditions = account.status(name).get("conditions", ())
    return next((c["reason"] for c in conditions if c["type"] == "Progressing"), "")


def _until_rolled_out(account: Account, name: str, version: str) -> None:
    def is_rolled_out() -> bool:
        status = account.status(name)
        return bool(status["rollout"]["version"] == version)

    account.wait_until(is_rolled_out, 120, every=0.5)
    account.wait_until(lambda: _progress(account, name) == "Stable", 120, every=0.5)


def test_an_update(account: Account, traffic: Traffic, echo_spec: Spec) -> None:
    with traffic:
        start = time.monotonic()
        account.apply("echo", **echo_spec, version="2")
        _until_rolled_out(account, "echo", "2")
        print(f"both pods are of the new version: {time.monotonic() - start:.1f} s")
        traffic.flows()
    tally = traffic.tally()
    print(tally)
    assert tally.attempts == 1


def test_the_only_pod_is_swapped(release: Release, account: Account, echo_spec: Spec) -> None:
    """Without room for another: work waits in the queue meanwhile."""
    spec = {**echo_spec, "minReplicas": 1, "maxReplicas": 1}
    traffic = Traffic(release, account, account.apply("single", **spec), clients=2)
    account.until_ready("single", timeout=120)
    with traffic:
        account.apply("single", **spec, version="2")
        _until_rolled_out(account, "single", "2")
        traffic.flows()
    tally = traffic.tally()
    print(tally)
    assert tally.attempts == 1
    account.delete("single")


def test_a_broken_update_and_a_killed_operator(
    release: Release, account: Account, traffic: Traffic, echo_spec: Spec
) -> None:
    serving = account.status("echo")["rollout"]["version"]
    engine = {**echo_spec["engine"], "className": "slow:Missing"}
    with traffic:
        start = time.monotonic()
        account.apply("echo", **{**echo_spec, "engine": engine, "version": "broken"})
        account.wait_until(lambda: _progress(account, "echo") != "Stable", 30, every=0.1)
        release.until_back("operator", release.kill("operator"))
        account.wait_until(lambda: _progress(account, "echo") == "RolloutFailed", 120, every=0.5)
        print(f"taken back after {time.monotonic() - start:.1f} s")
        traffic.flows()
        assert account.status("echo")["rollout"]["version"] == serving
    print(traffic.tally())
    account.apply("echo", **echo_spec, version="mended")
    _until_rolled_out(account, "echo", "mended")
