"""One namespace that the API server refuses holds up no other, and the operator says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from clock import Clock
from stub_api import StubApi

from inference_operator.cluster import operator as program
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.cache import lister as listing
from inference_operator.cluster.cache.lister import Lister
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.handlers import kopf_settings
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.reconciler import Reconciler
from inference_operator.cluster.settings import ClusterSettings

MODEL = {"apiVersion": "inference-server.dev/v1alpha1", "kind": "InferenceModel", "spec": {}}
FINE, ODD = ("fine", "m"), ("odd", "m")


@pytest.fixture
def models(api: StubApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_RETRY_SECONDS", 0.02)
    for namespace, name in (FINE, ODD):
        found = {**MODEL, "metadata": {"name": name, "namespace": namespace}}
        api.put(Kind.MODEL.path(namespace, name), found)


class Heard:
    def __init__(self) -> None:
        self.woken: list[Any] = []
        self.listed = 0
        self.refused: set[str] = set()

    def refuse(self, refused: Collection[str]) -> None:
        self.refused = set(refused)

    def note(self) -> None:
        self.listed += 1


@pytest.fixture
def mirror() -> Mirror:
    return Mirror(["odd", "fine"])


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def lister(models: None, cluster: Any, mirror: Mirror, heard: Heard) -> Iterator[Lister]:
    calls = (heard.woken.append, heard.note, heard.refuse)
    made = Lister(cluster, mirror, ["odd", "fine"], 3600, *calls)
    yield made
    made.close()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_the_others_are_listed_and_it_is_tried_again(
    status: int,
    api: StubApi,
    lister: Lister,
    mirror: Mirror,
    heard: Heard,
    wait_until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    api.refusals["GET", "odd"] = (status, "may not list")
    lister.start()
    wait_until(lambda: FINE in heard.woken)
    wait_until(lambda: len([r for r in api.requests if "/odd/" in r]) > 2)
    assert ODD not in heard.woken
    assert (heard.listed, heard.refused) == (1, {"odd"})
    assert lister.problems == {"odd": "may not list"}
    assert (mirror.is_known("fine"), mirror.is_known("odd")) == (True, False)
    assert not mirror.is_complete()
    said = [r.getMessage() for r in caplog.records if "cannot be listed" in r.getMessage()]
    assert said == ["namespace odd cannot be listed: may not list"]
    mirror.put(Kind.MODEL, api.objects[Kind.MODEL.path(*ODD)])  # a watch was allowed before
    api.refusals.clear()
    wait_until(lambda: ODD in heard.woken)
    wait_until(lambda: not lister.problems)
    assert (heard.listed, heard.refused) == (2, set())
    assert mirror.is_complete()


def test_what_was_known_of_it_stays(
    api: StubApi, models: None, cluster: Any, mirror: Mirror, heard: Heard
) -> None:
    clock = Clock()
    lister = Lister(
        cluster, mirror, ["odd", "fine"], 3600, heard.woken.append, heard.note, clock=clock
    )
    lister.list_due()
    assert mirror.is_complete()
    api.refusals["GET", "odd"] = (403, "may not list")
    clock.now += 3600
    lister.list_due()
    assert lister.problems == {"odd": "may not list"}
    assert mirror.models() == {FINE, ODD}
    assert mirror.is_complete()


def test_it_is_tried_ever_less_often(
    api: StubApi, cluster: Any, mirror: Mirror, heard: Heard
) -> None:
    clock = Clock()
    lister = Lister(cluster, mirror, ["odd"], 3600, heard.woken.append, heard.note, clock=clock)
    api.refusals["GET", "odd"] = (403, "may not list")
    tried: list[float] = []
    while len(tried) < 7:
        api.requests.clear()
        lister.list_due()
        if any("/odd/" in request for request in api.requests):
            tried.append(clock.now)
        clock.now += 1
    assert [later - before for before, later in pairwise(tried)] == [2, 4, 8, 16, 30, 30]


def test_a_namespace_that_can_be_listed_again_is_in_no_metric() -> None:
    metrics = ClusterMetrics()
    metrics.refuse(["odd", ""])
    metrics.refuse([""])
    said = metrics.exposition().decode()
    assert 'refused_namespaces{name="*"} 1.0' in said
    assert "odd" not in said


def test_a_watch_that_is_refused_is_tried_for_ever() -> None:
    backoffs: Any = kopf_settings().networking.error_backoffs
    assert not hasattr(backoffs, "__len__")  # kopf would count the tries
    pauses = [pause for pause, _ in zip(backoffs, range(1000), strict=False)]
    assert len(pauses) == 1000
    assert max(pauses) < 30


def test_the_operator_works_on_the_others_and_tells_of_it(
    api: StubApi,
    models: None,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    api.refusals["GET", "odd"] = (403, "may not list")
    url = "redis://127.0.0.1:1"
    monkeypatch.setenv("WATCH_NAMESPACES", "odd,fine")
    settings = ClusterSettings(
        runner_image="runner:1",
        redis_url=url,
        runner_redis_url=url,
        metrics_host="127.0.0.1",
        metrics_port=0,
        state_file=tmp_path / "state",
    )
    operator = program.ClusterOperator(settings)
    worked: list[Any] = []
    monkeypatch.setattr(Reconciler, "__call__", lambda _, key: worked.append(key))
    told: list[str] = []

    def page(path: str) -> str:
        port = json.loads((tmp_path / "state").read_text())["port"]
        return httpx.get(f"http://127.0.0.1:{port}{path}").text

    def watch(mirror: Mirror, put: Callable[[Any], None], disturbed: object) -> Any:
        return put

    def meanwhile(registry: Callable[[Any], None], **_: Any) -> None:
        wait_until(lambda: FINE in worked)
        wait_until(lambda: "odd" in page("/health/ready"))
        before = worked.count(FINE)
        for key in (ODD, FINE):  # watches tell of them
            registry(key)
        wait_until(lambda: worked.count(FINE) > before)
        told.extend(map(page, ("/health/ready", "/metrics")))

    monkeypatch.setattr(program, "register", watch)
    monkeypatch.setattr("inference_operator.cluster.operator.kopf.run", meanwhile)
    operator.run()
    assert ODD not in worked
    assert "namespace odd cannot be listed, and nothing is done there: may not list" in told[0]
    assert 'inference_operator_refused_namespaces{name="odd"} 1.0' in told[1]
