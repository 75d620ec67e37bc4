"""What is asked of the API server, and what its answers come to."""

from __future__ import annotations

import pytest
from stub_api import StubApi

from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind

KEY = ("team-a", "m")
PATH = Kind.MODEL.path(*KEY)


def test_a_request_without_an_answer_is_made_once(api: StubApi, cluster: Cluster) -> None:
    api.silent = 9
    with pytest.raises(ClusterError, match="does not answer") as error:
        cluster.within(0.1).get(Kind.MODEL, *KEY)
    assert error.value.status == 0
    assert api.requests == [f"GET {PATH}"]


def test_a_status_is_of_one_version_of_a_model(api: StubApi, cluster: Cluster) -> None:
    old = api.put(PATH, {})["metadata"]["resourceVersion"]
    written = cluster.write_status(KEY, old, {"queued": 1})
    assert written is not None
    assert written["status"] == {"queued": 1}
    assert cluster.write_status(KEY, old, {"queued": 2}) is None
    assert api.objects[PATH]["status"] == {"queued": 1}


def test_a_status_of_a_model_that_is_gone_is_nothing(api: StubApi, cluster: Cluster) -> None:
    assert cluster.write_status(KEY, "1", {"queued": 1}) is None
    assert PATH not in api.objects


def test_what_is_listed_is_as_a_watch_has_it(api: StubApi, cluster: Cluster) -> None:
    """An API server leaves out of a list's items what they are."""
    found = {"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [{"metadata": {}}]}
    api.put(Kind.DEPLOYMENT.path("team-a"), found)
    [(items, _)] = cluster.pages(Kind.DEPLOYMENT, "team-a")
    assert items == [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}}]
