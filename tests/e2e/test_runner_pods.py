"""What a document and its code find in the pod of a runner."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from release import Account, is_ready, kubectl, restarts

AS_WRITTEN = "$$5 $(HOME) $HOME"
"""Kubernetes would expand two of them."""


@pytest.fixture(scope="module")
def naughty(account: Account, custom: Callable[..., dict[str, Any]]) -> str:
    """The id of a model whose code ends its process."""
    spec = custom("naughty:Misbehaves", "do", minReplicas=1, maxReplicas=1)
    model = account.apply("naughty", **spec)
    account.until_ready("naughty", timeout=120)
    return model


@pytest.fixture(scope="module")
def deaf(account: Account, custom: Callable[..., dict[str, Any]]) -> str:
    """The id of a model whose code does not stop when it is told to."""
    env = [{"name": "PRICE", "value": AS_WRITTEN}]
    spec = custom("talkative:Deaf", "text", "seconds", minReplicas=1, maxReplicas=1, env=env)
    model = account.apply("deaf", **spec)
    account.until_ready("deaf", timeout=120)
    return model


def test_values_arrive_as_they_are_written(account: Account, deaf: str) -> None:
    [pod] = account.pods("deaf")
    where = ("-n", account.namespace, "exec", pod["metadata"]["name"])
    assert kubectl(*where, "--", "printenv", "PRICE") == f"{AS_WRITTEN}\n"


def test_a_runner_that_cannot_go_on_starts_anew_in_its_container(
    account: Account, deaf: str
) -> None:
    """And waits for no kubelet."""
    [pod] = account.pods("deaf")
    made = account.create(deaf, text="one", seconds="3600")
    url = f"/v1/predictions/{made['id']}"
    account.wait_until(lambda: account.api.get(url).json()["status"] == "processing")
    account.api.post(f"{url}/cancel").raise_for_status()
    start = time.monotonic()
    assert account.predict(deaf, 60, text="two", seconds="0")["output"] == "two"
    print(f"answered {time.monotonic() - start:.1f} s after the first was canceled")
    assert account.api.get(url).json()["status"] == "canceled"
    [after] = account.pods("deaf")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert (restarts(after), is_ready(after)) == (0, True)


@pytest.mark.parametrize("death", ["exit", "segfault", "abort"])
def test_a_runner_that_its_code_ends_starts_anew_in_its_container(
    account: Account, naughty: str, death: str
) -> None:
    """The kubelet sees nothing of it, and nobody waits for its backoff."""
    [pod] = account.pods("naughty")
    start = time.monotonic()
    made, after = account.create(naughty, do=death), account.create(naughty, do="well")
    ended = account.until_ended(made, 120)
    assert (ended["status"], ended["error_code"]) == ("failed", "runner_crashed")
    assert ended["error"] == "Its runner died 3 times while running it."
    assert ended["logs"] == ("" if death == "exit" else "the last words\n")
    print(f"given up after {time.monotonic() - start:.1f} s")
    assert account.until_ended(after, 10)["output"] == "well"
    start = time.monotonic()
    assert account.predict(naughty, 10, do="well")["output"] == "well"
    print(f"the next one was answered after {time.monotonic() - start:.1f} s")
    [now] = account.pods("naughty")
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    [container] = now["status"]["containerStatuses"]
    assert (container["restartCount"], container["lastState"]) == (0, {})
    log = kubectl("-n", account.namespace, "logs", pod["metadata"]["name"])
    assert log.count("and is started anew") >= 3
    account.until_ready("naughty")
    assert "CrashLoopBackOff" not in str(account.status("naughty"))
