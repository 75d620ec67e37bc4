"""Who holds the Lease stops in time, whatever the API server does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from stub_api import StubApi

from inference_operator.cluster import leader
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.leader import NAME, Leader

PATH = Kind.LEASE.path("server", NAME)
RENEW_WITHIN = 1.5


class Holder:
    def __init__(self, cluster: Cluster) -> None:
        self.lost = threading.Event()
        self.leader = Leader(cluster, "server", "first", self.lost.set)
        self.leader.acquire()


@pytest.fixture
def holder(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holder]:
    monkeypatch.setattr(leader, "RENEW_WITHIN", RENEW_WITHIN)
    monkeypatch.setattr(leader, "RETRY", 0.02)
    holder = Holder(cluster)
    yield holder
    holder.leader.release()


def _until_renewed(api: StubApi, wait_until: Callable[..., Any]) -> None:
    """The renewal under way at the call does not count."""
    before = api.objects[PATH]
    wait_until(lambda: api.objects[PATH] != before, 5)


def _begin_silence(api: StubApi) -> None:
    api.silent = 10**6


def _begin_slowness(api: StubApi) -> None:
    api.is_slow = True


@pytest.mark.parametrize("begin", [_begin_silence, _begin_slowness])
def test_without_an_answer_the_lease_is_lost_in_time(
    api: StubApi, holder: Holder, begin: Callable[[StubApi], None]
) -> None:
    begin(api)
    assert holder.lost.wait(RENEW_WITHIN + 1)


def test_one_answer_that_never_comes_loses_no_lease(
    api: StubApi, holder: Holder, wait_until: Callable[..., Any]
) -> None:
    api.silent = 1
    wait_until(lambda: api.silent == 0)
    _until_renewed(api, wait_until)
    assert not holder.lost.is_set()


def test_a_lease_counts_from_its_request_however_late_the_answer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = 0.0

    def answered_late(self: Cluster, *arguments: Any) -> Any:
        nonlocal slept
        answer = create(self, *arguments)
        slept += leader.RENEW_WITHIN
        return answer

    create = Cluster.create
    monkeypatch.setattr(Cluster, "create", answered_late)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + slept, sleep=time.sleep)
    monkeypatch.setattr(leader, "time", clock)
    monkeypatch.setattr(leader, "RETRY", 60.0)  # No renewal comes between.
    holder = Holder(cluster)
    is_lost = holder.lost.wait(5)
    holder.leader.release()
    assert is_lost


def test_a_lease_that_another_has_taken_is_lost_at_once(
    api: StubApi, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "RENEW_WITHIN", 3600)
    lease = api.objects[PATH]
    api.put(PATH, {**lease, "spec": {**lease["spec"], "holderIdentity": "second"}})
    assert holder.lost.wait(5)


def test_a_lease_that_is_given_back_has_no_holder(api: StubApi, holder: Holder) -> None:
    holder.leader.release()
    assert api.objects[PATH]["spec"]["holderIdentity"] == ""
    assert not holder.lost.is_set()


def test_a_lease_is_not_given_back_while_a_renewal_is_under_way(
    api: StubApi, holder: Holder, wait_until: Callable[..., Any]
) -> None:
    api.is_slow = True
    asked = len(api.requests)
    wait_until(lambda: len(api.requests) > asked)
    asked = len(api.requests)
    holder.leader.release()
    assert len(api.requests) == asked
