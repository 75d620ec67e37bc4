"""InferenceModels as the API server gives them, and what is theirs."""

from __future__ import annotations

from typing import Any

import pytest

from inference_contract.inferencemodel import Reason
from inference_contract.pods import LABEL_OWNER
from inference_operator.cluster.children import Parent
from inference_operator.cluster.resource import Refusal, parse, require_ours
from inference_operator.cluster.settings import ClusterSettings

PARENT = Parent("team-a", "m", "uid-1")


def _found(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {
            "name": "m",
            "namespace": "team-a",
            "uid": "uid-1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 3,
        },
        "spec": {"type": "text-generation", "source": {"path": "/m"}, **spec},
        "status": {"unknown": "of another version"},
    }


def test_the_namespace_says_whose_it_is() -> None:
    resource = parse(_found(), owner="alice", home="team-a")
    assert resource.model.id == "alice/m"
    assert resource.parent == PARENT
    assert resource.key == ("team-a", "m")
    assert resource.model.metadata.generation == 3


@pytest.mark.parametrize(
    ("owner", "home", "spec", "message"),
    [
        ("", "", {}, f"no owner: kubectl label namespace team-a {LABEL_OWNER}=OWNER"),
        ("Alice_1", "team-a", {}, "is no owner's name"),
        ("alice", "old", {}, f"team-a is labelled {LABEL_OWNER}=alice, but so is old, which is"),
        ("alice", "team-a", {"minReplicas": 9}, "correct the resource: spec: minReplicas"),
    ],
)
def test_refusals(owner: str, home: str, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(_found(**spec), owner, home)
    assert refusal.value.reason is Reason.INVALID_MODEL
    assert message in str(refusal.value)


def _there(*owners: tuple[str, str, str]) -> dict[str, Any]:
    references = [{"kind": kind, "name": name, "uid": uid} for kind, name, uid in owners]
    metadata = {"name": "m-runner", "ownerReferences": references}
    return {"kind": "Deployment", "metadata": metadata}


def test_what_is_ours_is_claimed() -> None:
    require_ours(_there(("InferenceModel", "m", "uid-1")), PARENT)


@pytest.mark.parametrize(
    ("there", "message", "may_pass"),
    [
        (_there(), "Deployment m-runner exists and is not of this InferenceModel: delete", False),
        (_there(("Other", "m", "uid-2")), "exists and is not of this InferenceModel", False),
        (_there(("InferenceModel", "m", "uid-0")), "is of an earlier InferenceModel of", True),
    ],
)
def test_what_is_not_is_refused(there: dict[str, Any], message: str, may_pass: bool) -> None:
    with pytest.raises(Refusal, match=message) as refusal:
        require_ours(there, PARENT)
    assert (refusal.value.reason, refusal.value.may_pass) == (Reason.NAME_TAKEN, may_pass)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_IMAGE", "runner:1")
    monkeypatch.setenv("REDIS_URL", "redis://r")
    monkeypatch.setenv("WATCH_NAMESPACES", "a, b,")
    monkeypatch.setenv("HARDWARE_PROFILES", '{"h100": {"nodeSelector": {"gpu": "h100"}}}')
    settings = ClusterSettings()
    assert settings.namespaces == ["a", "b"]
    assert sorted(settings.profiles) == ["cpu", "h100"]
    assert settings.profiles["h100"].node_selector == {"gpu": "h100"}
