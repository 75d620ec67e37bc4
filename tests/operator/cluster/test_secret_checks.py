"""A Secret that somebody deletes or changes is noticed, though no watch tells of it."""

from __future__ import annotations

from stub_api import StubApi

from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.secret_checks import SecretChecks

KEY = ("team-a", "m")
PATH = Kind.SECRET.path("team-a", "m-runner")


def test_what_becomes_of_a_secret(api: StubApi, cluster: Cluster) -> None:
    told: list[tuple[str, str]] = []
    rounds = SecretChecks(cluster, Mirror(), told.append)
    found = api.put(PATH, {"metadata": {"name": "m-runner"}})
    rounds.check(KEY)
    rounds.check(KEY)
    assert told == []
    api.put(PATH, found)
    rounds.check(KEY)
    assert told == [KEY]
    del api.objects[PATH]
    rounds.check(KEY)
    assert told == [KEY, KEY]
