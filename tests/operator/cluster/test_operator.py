"""How the operator's process ends: the Lease is given back only if nothing is written any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partialmethod
from typing import Any

import pytest
from stub_api import StubApi

from inference_operator.cluster import operator as program
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.leader import NAME
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.cluster.work_queue import WorkQueue

PATH = Kind.LEASE.path("server", NAME)


class Work:
    """Is under way until `gate` opens."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.gate = threading.Event()

    def __call__(self, _: Key) -> None:
        self.begun.set()
        self.gate.wait(20)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.gate.set()


@pytest.fixture
def operator(
    api: StubApi, work: Work, monkeypatch: pytest.MonkeyPatch
) -> Iterator[program.ClusterOperator]:
    url = "redis://127.0.0.1:1"
    settings = ClusterSettings(
        runner_image="runner:1",
        redis_url=url,
        runner_redis_url=url,
        leader_namespace="server",
        metrics_host="127.0.0.1",
        metrics_port=0,
    )
    operator = program.ClusterOperator(settings)
    operator.queue = WorkQueue(work, workers=1, resync=3600)
    yield operator
    operator.leader.release()


def _holder(api: StubApi) -> str:
    holder: str = api.objects[PATH]["spec"]["holderIdentity"]
    return holder


def _run(operator: program.ClusterOperator, monkeypatch: pytest.MonkeyPatch, end: Any) -> None:
    """Until `end`, in place of kopf and a signal."""
    monkeypatch.setattr("inference_operator.cluster.operator.kopf.run", lambda **_: end())
    operator.run()


def test_at_rest_the_lease_is_given_back(
    api: StubApi,
    operator: program.ClusterOperator,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work.gate.set()
    operator.queue.put(("team-a", "m"))
    _run(operator, monkeypatch, lambda: work.begun.wait(20))
    assert _holder(api) == ""


def test_with_work_under_way_it_ends_by_itself(
    api: StubApi, operator: program.ClusterOperator, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkQueue, "close", partialmethod(WorkQueue.close, timeout=0.1))
    operator.queue.put(("team-a", "m"))
    _run(operator, monkeypatch, lambda: work.begun.wait(20))
    assert _holder(api) != ""


def test_an_operator_can_end_before_it_has_begun(
    api: StubApi,
    operator: program.ClusterOperator,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., Any],
) -> None:
    api.refusals["GET", "namespaces"] = (403, "no")
    asked = "GET /api/v1/namespaces"
    _run(operator, monkeypatch, lambda: wait_until(lambda: asked in api.requests))
    assert _holder(api) != ""
