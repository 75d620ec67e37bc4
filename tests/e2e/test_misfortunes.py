"""Models that cannot run: each says why, within seconds, and what is mended runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from release import Account, kubectl, restarts

Custom = Callable[..., dict[str, Any]]
MISFORTUNES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-image": (
        {"pod": {"image": "localhost:5000/no-such-image:1"}},
        "ImagePullBackOff",
        "localhost:5000/no-such-image:1",
    ),
    "no-weights": (
        {"type": "text-generation", "source": {"path": "/nowhere/weights"}, "engine": {}},
        "LoadFailed",
        "/nowhere/weights",
    ),
    "no-class": ({"engine": {"className": "slow:Missing"}}, "LoadFailed", "Missing"),
    "no-room": (
        {"pod": {"resources": {"requests": {"memory": "1Ti"}}}},
        "Unschedulable",
        "Insufficient memory",
    ),
}


@pytest.mark.parametrize("name", MISFORTUNES)
def test_what_stands_in_the_way_is_said(account: Account, custom: Custom, name: str) -> None:
    changes, reason, words = MISFORTUNES[name]
    start = time.monotonic()
    account.apply(name, **{**custom("slow:Slow", "text", minReplicas=1), **changes})
    message = account.until_ready(name, reason, words)
    print(f"{reason} after {time.monotonic() - start:.1f} s: {message}")
    account.delete(name)


def test_what_is_mended_runs(account: Account, custom: Custom) -> None:
    """And what was asked meanwhile is answered."""
    spec = custom("slow:Slow", "text", parameters={"seconds": 0})
    greedy = {"pod": {"resources": {"requests": {"memory": "1Ti"}}}}
    model = account.apply("greedy", **{**spec, **greedy})
    made = account.create(model, text="hi")
    account.until_ready("greedy", "Unschedulable")
    account.apply("greedy", **spec)
    start = time.monotonic()
    assert account.until_ended(made, 90)["output"] == "HI"
    print(f"answered {time.monotonic() - start:.1f} s after it was mended")
    account.delete("greedy")


def test_a_model_that_eats_too_much(account: Account, custom: Custom) -> None:
    """It fails what it was eating at, and nothing else."""
    model = account.apply("eater", **custom("naughty:Misbehaves", "do", minReplicas=1))
    account.until_ready("eater", timeout=90)
    start = time.monotonic()
    made = account.create(model, do="eat")
    account.until_ready("eater", "OOMKilled", timeout=60)
    print(f"OOMKilled after {time.monotonic() - start:.1f} s")
    ended = account.until_ended(made, 170)
    assert (ended["status"], ended["error_code"]) == ("failed", "runner_crashed")
    print(f"given up after {time.monotonic() - start:.1f} s: {ended['error']}")
    assert account.predict(model, 120, do="well")["output"] == "well"
    # Though the kernel may have killed the runner alone, and not its parent: who gave it so little
    # must see that.
    [pod] = account.pods("eater")
    [container] = pod["status"]["containerStatuses"]
    last = container["lastState"]["terminated"]
    assert (last["reason"], last["exitCode"]) == ("OOMKilled", 137)
    # On a busy machine the last lease may end before it has eaten enough: then it is only stopped.
    assert restarts(pod) in (2, 3)
    where = ("-n", account.namespace, "logs", "--previous", pod["metadata"]["name"])
    assert "started anew" not in kubectl(*where)
    account.delete("eater")
