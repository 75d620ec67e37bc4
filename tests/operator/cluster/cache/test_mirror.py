"""What is known of the cluster, whatever order lists and events come in."""

from __future__ import annotations

from typing import Any

import pytest

from inference_contract.pods import LABEL_MODEL, LABEL_OWNER
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.cache.mirror import Mirror

KEY = ("team", "m")


def _object(name: str, version: int, *, model: str = "", namespace: str = "team") -> dict[str, Any]:
    labels = {LABEL_MODEL: model} if model else {}
    metadata = {"name": name, "namespace": namespace, "uid": name, "labels": labels}
    return {"metadata": {**metadata, "resourceVersion": str(version)}}


def _version(mirror: Mirror) -> int:
    model = mirror.model(KEY)
    return int(model["metadata"]["resourceVersion"]) if model else 0


def _list(mirror: Mirror, version: int, *items: dict[str, Any], scope: str = "") -> set[Any]:
    return mirror.replace(Kind.MODEL, scope, [(list(items), str(version))])


def test_news_is_what_is_newer() -> None:
    mirror = Mirror()
    assert mirror.put(Kind.MODEL, _object("m", 9)) == {KEY}
    assert mirror.put(Kind.MODEL, _object("m", 9)) == set()
    assert mirror.put(Kind.MODEL, _object("m", 8)) == set()
    assert _version(mirror) == 9
    assert mirror.put(Kind.MODEL, _object("m", 10)) == {KEY}
    assert _version(mirror) == 10


def test_what_is_gone_does_not_come_back_with_what_is_old() -> None:
    mirror = Mirror()
    mirror.put(Kind.MODEL, _object("m", 5))
    assert mirror.delete(Kind.MODEL, _object("m", 7)) == {KEY}
    mirror.put(Kind.MODEL, _object("m", 6))
    assert _list(mirror, 6, _object("m", 6)) == set()
    assert mirror.model(KEY) is None
    mirror.put(Kind.MODEL, _object("m", 8))
    assert _version(mirror) == 8


def test_a_list_tells_of_what_went_unseen() -> None:
    mirror = Mirror()
    mirror.put(Kind.MODEL, _object("m", 5))
    mirror.put(Kind.MODEL, _object("later", 12))
    assert _list(mirror, 10) == {KEY}
    assert mirror.models() == {("team", "later")}


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    mirror = Mirror()
    mirror.put(Kind.MODEL, _object("m", 5))
    assert _list(mirror, 10, scope="other") == set()
    assert mirror.models() == {KEY}


def test_pages_are_one_list() -> None:
    mirror = Mirror()
    pages = [([_object("a", 1)], "9"), ([_object("b", 2)], "9")]
    assert mirror.replace(Kind.MODEL, "", pages) == {("team", "a"), ("team", "b")}
    assert mirror.replace(Kind.MODEL, "", pages) == set()
    assert mirror.models() == {("team", "a"), ("team", "b")}


def test_children_concern_their_model() -> None:
    mirror = Mirror()
    for name in ("p2", "p1"):
        assert mirror.put(Kind.POD, _object(name, 1, model="m")) == {KEY}
    assert [pod.name for pod in mirror.pods(KEY)] == ["p1", "p2"]
    assert mirror.delete(Kind.POD, _object("p2", 3, model="m")) == {KEY}
    assert [pod.name for pod in mirror.pods(KEY)] == ["p1"]
    assert mirror.pods(("team", "other")) == []


def test_a_pod_that_was_put_out_is_none_of_a_models_pods() -> None:
    mirror = Mirror()
    pod = _object("p", 1, model="m")
    pod["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    mirror.put(Kind.POD, {**pod, "status": {"phase": "Failed", "reason": "Evicted"}})
    assert mirror.pods(KEY) == []
    assert [pod.name for pod in mirror.evicted(KEY)] == ["p"]
    assert mirror.model_keys() == set()


def test_of_a_deployment_only_what_matters_is_news() -> None:
    mirror = Mirror()

    def put(version: int, **more: Any) -> bool:
        found = _object("d", version, model="m")
        return mirror.put(Kind.DEPLOYMENT, {**found, **more}) == {KEY}

    def says(type: str, status: str) -> dict[str, Any]:
        at = {"lastUpdateTime": "2026-01-01T00:00:00Z"}
        return {"conditions": [{"type": type, "status": status, "message": "quota", **at}]}

    assert put(1, spec={"replicas": 1})
    assert not put(2, spec={"replicas": 1}, status={"observedGeneration": 1, "replicas": 1})
    assert not put(3, spec={"replicas": 1}, status=says("Progressing", "True"))
    assert put(4, spec={"replicas": 1}, status=says("ReplicaFailure", "True"))
    assert not put(3, spec={"replicas": 2})  # It comes late.
    assert put(5, spec={"replicas": 2}, status=says("ReplicaFailure", "True"))
    found = mirror.deployment("team", "d") or {}
    [condition] = found["status"]["conditions"]
    assert condition == {"type": "ReplicaFailure", "status": "True", "message": "quota"}


@pytest.mark.parametrize(
    ("generation", "observed", "is_kept"),
    [
        ({"generation": 3}, {"observedGeneration": 3}, True),
        ({"generation": 4}, {"observedGeneration": 3}, False),
        ({"generation": 4}, {}, False),
        ({}, {}, True),
    ],
)
def test_what_is_said_of_an_earlier_version_does_not_count(
    generation: dict[str, int], observed: dict[str, int], is_kept: bool
) -> None:
    mirror = Mirror()
    found = _object("d", 1, model="m")
    late = {"type": "Progressing", "status": "False", "message": "late"}
    status = {**observed, "conditions": [late]}
    metadata = {**found["metadata"], **generation}
    mirror.put(Kind.DEPLOYMENT, {"metadata": metadata, "status": status})
    kept = (mirror.deployment("team", "d") or {})["status"]["conditions"]
    assert kept == ([late] if is_kept else [])


def _namespace(name: str, version: int, owner: str = "", **metadata: Any) -> dict[str, Any]:
    created = {"creationTimestamp": f"2026-01-0{version}T00:00:00Z"}
    labels = {LABEL_OWNER: owner} if owner else {}
    content = {"name": name, "resourceVersion": str(version), "labels": labels}
    return {"metadata": {**content, **created, **metadata}}


def test_a_namespace_concerns_its_models() -> None:
    mirror = Mirror()
    mirror.put(Kind.MODEL, _object("m", 1))
    assert mirror.put(Kind.NAMESPACE, _namespace("team", 2, "ann")) == {KEY}
    assert (mirror.owner("team"), mirror.owner("other")) == ("ann", "")
    other: dict[str, Any] = {"labels": {LABEL_OWNER: "ann", "news": "none"}}
    found = _namespace("team", 3, creationTimestamp="2026-01-02T00:00:00Z", **other)
    assert mirror.put(Kind.NAMESPACE, found) == set()


def test_the_oldest_of_an_owners_namespaces_is_home() -> None:
    mirror = Mirror()
    young = ("young", "m")
    mirror.put(Kind.MODEL, _object("m", 1))
    mirror.put(Kind.MODEL, _object("m", 1, namespace="young"))
    mirror.put(Kind.NAMESPACE, _namespace("young", 3, "ann"))
    assert mirror.home("ann") == "young"
    assert mirror.put(Kind.NAMESPACE, _namespace("team", 2, "ann")) == {KEY, young}
    assert mirror.home("ann") == "team"
    terminating = _namespace("team", 4, "ann", deletionTimestamp="2026-01-09T00:00:00Z")
    assert mirror.put(Kind.NAMESPACE, terminating) == {KEY, young}
    assert (mirror.home("ann"), mirror.owner("team")) == ("young", "")


def test_a_home_is_one_of_the_namespaces_with_models() -> None:
    mirror = Mirror(["young"])
    mirror.put(Kind.NAMESPACE, _namespace("team", 2, "ann"))
    assert mirror.home("ann") == ""
    mirror.put(Kind.NAMESPACE, _namespace("young", 3, "ann"))
    assert mirror.home("ann") == "young"


def test_what_is_kept_of_a_model_is_all_but_who_wrote_it() -> None:
    mirror = Mirror()
    found = _object("m", 1)
    mirror.put(Kind.MODEL, {**found, "metadata": {**found["metadata"], "managedFields": [1]}})
    assert mirror.model(KEY) == found


def test_models_are_in_use_until_their_last_pod_is_gone() -> None:
    mirror = Mirror()
    mirror.put(Kind.NAMESPACE, _namespace("team", 1, "ann"))
    mirror.put(Kind.MODEL, _object("m", 2))
    pod = _object("p", 3, model="old")
    pod["metadata"]["labels"] |= {LABEL_OWNER: "bob"}
    mirror.put(Kind.POD, pod)
    assert mirror.model_keys() == {"ann_m", "bob_old"}
    pod["metadata"]["resourceVersion"] = "4"
    mirror.put(Kind.POD, {**pod, "status": {"phase": "Failed"}})
    assert mirror.model_keys() == {"ann_m"}
