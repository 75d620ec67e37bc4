"""All that can happen to models happens at once, and the operator is killed again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import test_first_prediction
import test_misfortunes
import test_pods_die
import test_scaling
import test_update
from release import Account, Release, kubectl
from traffic import Traffic

from inference_operator.cluster.leader import NAME

KILLS = 2
PATIENCE = 4
"""Times longer than else may it take: who takes over waits until the Lease is over, and all that
happens at once shares two processors."""
pytestmark = pytest.mark.timeout(PATIENCE * 180)


def _holder(release: Release) -> str:
    """Name of the pod of the operator that acts."""
    where = "jsonpath={.spec.holderIdentity}"
    found = kubectl("-n", release.name, "get", "lease", NAME, "--ignore-not-found", "-o", where)
    return found.rpartition("_")[0]


@contextmanager
def _dying_operator(release: Release) -> Iterator[None]:
    """Killed at once, and each time that the next one has acted for a moment."""
    chance = random.Random(1)

    def kill() -> None:
        for _ in range(KILLS):
            [operator] = release.pods("operator")
            victim = operator["metadata"]["name"]
            delete = ("-n", release.name, "delete", "pod", victim)
            kubectl(*delete, "--force", "--grace-period=0", "--wait=false")
            release.wait_until(
                lambda gone=victim: _holder(release) not in ("", gone), 90, every=0.2
            )
            time.sleep(chance.uniform(0, 3))  # The moment is what is tried.

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        yield
        killed.result()


def _timed(name: str, happen: Callable[[], object]) -> None:
    start = time.monotonic()
    try:
        happen()
    finally:
        print(f"{name}: over after {time.monotonic() - start:.1f} s")


@pytest.fixture
def patient(account: Account) -> Account:
    wait_until = account.wait_until

    def wait(condition: Callable[[], Any], timeout: float = 20, every: float = 0.1) -> Any:
        return wait_until(condition, PATIENCE * timeout, every)

    return replace(account, wait_until=wait)


@pytest.fixture
def traffic(release: Release, patient: Account, echo: str) -> Traffic:
    return Traffic(release, patient, echo)


def test_whatever_happens(
    release: Release,
    patient: Account,
    custom: Callable[..., dict[str, Any]],
    echo_spec: dict[str, Any],
    traffic: Traffic,
) -> None:
    account = patient
    happenings: dict[str, Callable[[], object]] = {
        **{
            name: partial(
                test_misfortunes.test_what_stands_in_the_way_is_said, account, custom, name
            )
            for name in test_misfortunes.MISFORTUNES
        },
        "mended": partial(test_misfortunes.test_what_is_mended_runs, account, custom),
        "out of memory": partial(test_misfortunes.test_a_model_that_eats_too_much, account, custom),
        "burst": partial(
            test_scaling.test_to_three_pods_and_back_to_none, release, account, custom
        ),
        "swap": partial(test_update.test_the_only_pod_is_swapped, release, account, echo_spec),
        "zero": partial(
            test_first_prediction.from_nothing_to_a_streamed_answer_and_back_to_zero, account
        ),
        "killed": partial(test_pods_die.test_a_runner_is_killed, account, traffic),
    }
    with _dying_operator(release), ThreadPoolExecutor(len(happenings)) as pool:
        ends = {name: pool.submit(_timed, name, happen) for name, happen in happenings.items()}
    failed = {name: error for name, end in ends.items() if (error := end.exception())}
    assert not failed, failed


def test_the_node_is_drained(release: Release, patient: Account, traffic: Traffic) -> None:
    with _dying_operator(release):
        test_pods_die.test_the_node_is_drained(patient, traffic)


def test_an_update(
    release: Release, patient: Account, traffic: Traffic, echo_spec: dict[str, Any]
) -> None:
    with _dying_operator(release):
        test_update.test_an_update(patient, traffic, echo_spec)
