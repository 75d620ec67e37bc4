"""A burst: pods come, everything is answered, pods go, and nothing is lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from release import Account, Release, is_ready, kubectl
from traffic import Traffic


def test_to_three_pods_and_back_to_none(
    release: Release, account: Account, custom: Callable[..., dict[str, Any]]
) -> None:
    autoscaling = {
        "targetPerReplica": 4,
        "scaleDownDelaySeconds": 2,
        "idleTimeoutSeconds": 2,
    }
    spec = custom("slow:Slow", "text", parameters={"seconds": 0.5}, maxReplicas=3)
    model = account.apply("burst", **spec, batching={"maxBatchSize": 1}, autoscaling=autoscaling)
    traffic = Traffic(release, account, model, clients=5, every=0.5)
    start = time.monotonic()

    def ready() -> int:
        return sum(map(is_ready, account.pods("burst")))

    with traffic:
        print(f"from zero to twenty answers: {time.monotonic() - start:.1f} s")
        account.wait_until(lambda: ready() == 3, 90, every=0.2)
        print(f"three pods: {time.monotonic() - start:.1f} s")
    print(traffic.tally())
    start = time.monotonic()
    account.wait_until(lambda: not account.pods("burst"), 120, every=0.5)
    print(f"no pod any more after {time.monotonic() - start:.1f} s")


def test_the_idle_pod_goes_first(account: Account, custom: Callable[..., dict[str, Any]]) -> None:
    """Of two pods, one of which works on a prediction."""
    many = custom("slow:Slow", "text", parameters={"seconds": 15}, minReplicas=2, maxReplicas=2)
    one = {**many, "minReplicas": 1, "maxReplicas": 1}

    def ready() -> list[dict[str, Any]]:
        return list(filter(is_ready, account.pods("pair")))

    model = account.apply("pair", **many)
    account.wait_until(lambda: len(ready()) == 2, 90, every=0.2)
    made = account.create(model, text="hi")
    url = f"/v1/predictions/{made['id']}"
    account.wait_until(lambda: account.api.get(url).json()["status"] == "processing")
    account.apply("pair", **one)
    account.wait_until(lambda: len(ready()) == 1, every=0.2)
    assert account.api.get(url).json()["status"] == "processing"
    [pod] = ready()
    assert account.until_ended(made)["output"] == "HI"
    assert made["id"] in kubectl("-n", account.namespace, "logs", pod["metadata"]["name"])
    account.delete("pair")
