"""Hub models on a real cluster: what their status says while they are downloaded, and of failures.

The hub is `fake_hub` on the node's own address, where pods reach this machine.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_operator import ClusterOperator
from fake_hub import Hub, serve
from narrow import there

REPO = "org/tiny"
TINY = Path(__file__).parents[1] / "docs" / "tiny_gpt2.py"
SOURCE = {"hub": {"repo": REPO}}


@pytest.fixture
def node_hub(operator: ClusterOperator) -> Iterator[Hub]:
    [address] = [
        address.address
        for address in there(there(operator.core.list_node().items[0].status).addresses)
        if address.type == "InternalIP"
    ]
    hub = Hub()
    server = serve(hub, address)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a model that loads."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, str(TINY), str(folder)], check=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_download_says_how_far_it_is_and_is_no_load(
    operator: ClusterOperator, node_hub: Hub, tiny: dict[str, bytes], runner_image: str
) -> None:
    """It takes twice as long as a load may."""
    node_hub.add(REPO, {**tiny, "ballast.codes": random.Random(0).randbytes(60_000_000)})
    node_hub.rate = 5_000_000
    operator.start(RUNNER_IMAGE=runner_image, HF_ENDPOINT=node_hub.url)
    operator.make(minReplicas=1, source=SOURCE, timeouts={"loadSeconds": 6})
    said: dict[str, None] = {}

    def is_past() -> bool:
        conditions = {c["type"]: c for c in operator.status().get("conditions", [])}
        ready = conditions.get("Ready", {})
        if ready.get("reason") == "DownloadingModel":
            said[ready["message"]] = None
            assert conditions["ArtifactCached"]["status"] == "False"
            assert conditions["Progressing"]["reason"] == "DownloadingModel"
        assert ready.get("reason") != "LoadFailed"
        return bool(ready.get("reason") == "LoadingModel")

    operator.until(is_past, 90)
    assert all(re.fullmatch(rf"downloading {REPO}(: \d+ % of 60\.\d MB)?", w) for w in said)
    percents = [int(found[1]) for words in said if (found := re.search(r": (\d+) % of", words))]
    assert percents == sorted(percents)
    assert any(0 < percent < 100 for percent in percents)
    cached = operator.condition("ArtifactCached")
    assert (cached["status"], cached["reason"]) == ("True", "Cached")


def test_a_repository_that_is_not_there(
    operator: ClusterOperator, node_hub: Hub, runner_image: str
) -> None:
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    operator.core.patch_namespace(operator.namespace, {"metadata": {"labels": enforce}})
    operator.start(RUNNER_IMAGE=runner_image, HF_ENDPOINT=node_hub.url)
    operator.make(minReplicas=1, source=SOURCE)
    message = operator.until_reason("LoadFailed", 60)
    assert message.startswith(f"the hub has no repository {REPO}, or it is private: ")
    assert operator.condition("ArtifactCached")["reason"] == "LoadFailed"
    assert any("the model was not downloaded" in line for line in operator.status()["logTail"])
    operator.until(lambda: "LoadFailed" in [reason for reason, _ in operator.events()])


def test_a_hub_that_comes_back_and_goes(
    operator: ClusterOperator, node_hub: Hub, tiny: dict[str, bytes], runner_image: str
) -> None:
    node_hub.add(REPO, tiny)
    node_hub.answer = (503, "")
    operator.start(RUNNER_IMAGE=runner_image, HF_ENDPOINT=node_hub.url)
    operator.make(minReplicas=1, source=SOURCE)
    assert "the hub does not answer" in operator.until_reason("LoadFailed", 60)
    node_hub.answer = None
    operator.until_reason("LoadingModel", 60)
    node_hub.answer = (503, "")  # The runner needs it no more.
    assert operator.until_reason("Ready", 60) == "1 of 1 replicas ready"
