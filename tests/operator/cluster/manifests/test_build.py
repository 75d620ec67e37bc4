"""What is applied for a model beside its pods and its policy, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from runner_manifests import (
    LABELS,
    METADATA,
    children_for,
    plain,
)

from inference_contract.pods import LABEL_HASH
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.manifests.deployment import with_replicas


def test_the_deployment() -> None:
    made = children_for(timeouts={"loadSeconds": 100, "drainSeconds": 1000})
    deployment = plain(made.deployment)
    template = deployment["spec"].pop("template")
    assert deployment == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": METADATA,
        "spec": {
            "selector": {"matchLabels": {"inference-server.dev/model": "m"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "progressDeadlineSeconds": 1700,
            "revisionHistoryLimit": 2,
        },
    }
    assert template["metadata"]["labels"] == {**LABELS, LABEL_HASH: made.hash}


@pytest.mark.parametrize(
    "change",
    [
        {"displayName": "Other"},
        {"description": "d"},
        {"visibility": "public"},
        {"minReplicas": 1},
        {"maxReplicas": 9},
        {"autoscaling": {"targetPerReplica": 3}},
        {"inputSchema": {"x": {"type": "string"}}},
    ],
    ids=str,
)
def test_what_runners_do_not_read_changes_no_pod(change: dict[str, Any]) -> None:
    assert children_for(**change).deployment == children_for().deployment


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"source": {"path": "/other"}},
        {"engine": {"dtype": "float16"}},
        {"batching": {"maxBatchSize": 2}},
        {"env": [{"name": "A", "value": "1"}]},
        {"pod": {"image": "other"}},
    ],
    ids=str,
)
def test_what_they_read_does(change: dict[str, Any]) -> None:
    assert children_for(**change).deployment != children_for().deployment


def test_a_new_redis_makes_new_pods() -> None:
    other = children_for({"redis_url": "redis://other:6379"})
    assert other.deployment != children_for().deployment
    assert "other" not in str(other.deployment)


def test_the_secret() -> None:
    made = children_for({"redis_url": "redis://r"})
    assert plain(made.supporting[Kind.SECRET]) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": METADATA,
        "type": "Opaque",
        "data": {"REDIS_URL": "cmVkaXM6Ly9y"},
    }


def test_the_service_account() -> None:
    assert plain(children_for().supporting[Kind.SERVICE_ACCOUNT]) == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": METADATA,
        "automountServiceAccountToken": False,
    }


def test_the_secrets_that_images_are_pulled_with() -> None:
    """Other ones are no other version of the model."""
    made = children_for({"runner_image_pull_secrets": "mine, other"})
    account = made.supporting[Kind.SERVICE_ACCOUNT]
    assert account["imagePullSecrets"] == [{"name": "mine"}, {"name": "other"}]
    assert made.hash == children_for().hash


def test_replicas_are_said_when_it_is_sent() -> None:
    made = children_for().deployment
    assert "replicas" not in made["spec"]
    assert with_replicas(made, 3)["spec"] == {**made["spec"], "replicas": 3}


@pytest.mark.parametrize(("surge", "unavailable"), [(0, 1), (2, 0)])
def test_a_rollout_without_and_with_room_to_spare(surge: int, unavailable: int) -> None:
    made = children_for(rollout={"maxSurge": surge})
    assert made.deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


@pytest.mark.parametrize(
    ("settings", "changes", "is_other"),
    [
        ({"runner_image": "other:1"}, {}, True),
        ({}, {"version": "2"}, True),
        ({}, {"displayName": "Other"}, False),
        ({}, {"maxReplicas": 9}, False),
        ({}, {"rollout": {"maxSurge": 1}}, False),
    ],
)
def test_what_makes_another_version(
    settings: dict[str, Any], changes: dict[str, Any], is_other: bool
) -> None:
    assert (children_for(settings, **changes).hash != children_for().hash) is is_other
