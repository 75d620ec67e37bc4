"""Whom a model's pods may speak to, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from runner_manifests import (
    METADATA,
    children_for,
    plain,
)

from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.manifests.closed import closed

DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
HTTPS = {"ports": [{"protocol": "TCP", "port": 443}]}
HUB = {
    "to": [
        {
            "ipBlock": {
                "cidr": "0.0.0.0/0",
                "except": [
                    *("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16"),
                    *("172.16.0.0/12", "192.168.0.0/16"),
                ],
            }
        },
        {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
    ],
    **HTTPS,
}


@pytest.mark.parametrize(
    ("redis_url", "source", "egress"),
    [
        (
            "redis://redis:6380/1",
            {"path": "/m"},
            [DNS, {"ports": [{"protocol": "TCP", "port": 6380}]}],
        ),
        (
            "rediss://:pw@10.0.0.7",
            {"hub": {"repo": "a/b"}},
            [
                DNS,
                {
                    "to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}],
                    "ports": [{"protocol": "TCP", "port": 6379}],
                },
                HUB,
            ],
        ),
    ],
)
def test_the_network_policy(redis_url: str, source: dict[str, Any], egress: list[Any]) -> None:
    made = children_for({"redis_url": redis_url}, source=source)
    assert plain(made.supporting[Kind.NETWORK_POLICY]) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {key: value for key, value in METADATA.items() if key != "ownerReferences"},
        "spec": {
            "podSelector": {"matchLabels": {"inference-server.dev/model": "m"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": 8001}]}],
            "egress": egress,
        },
    }


@pytest.mark.parametrize(
    ("hub_url", "rules"),
    [
        ("https://mirror.example.com", [HTTPS, HTTPS]),
        ("http://mirror", [HTTPS, {"ports": [{"protocol": "TCP", "port": 80}]}]),
        (
            "http://10.1.2.3:8080/hub",
            [
                {
                    "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}],
                    "ports": [{"protocol": "TCP", "port": 8080}],
                },
            ],
        ),
        (
            "https://[2001:db8::1]",
            [
                {
                    "to": [{"ipBlock": {"cidr": "2001:db8::1/128"}}],
                    "ports": [{"protocol": "TCP", "port": 443}],
                },
            ],
        ),
    ],
)
def test_the_way_to_a_mirror_is_open_to_those_who_download(hub_url: str, rules: list[Any]) -> None:
    def egress(source: dict[str, Any]) -> list[Any]:
        made = children_for({"hf_endpoint": hub_url}, source=source)
        found: list[Any] = made.supporting[Kind.NETWORK_POLICY]["spec"]["egress"]
        return found

    assert egress({"hub": {"repo": "a/b"}})[2:] == rules
    assert len(egress({"path": "/m"})) == 2


def test_no_document_opens_a_way() -> None:
    env = [{"name": "HF_ENDPOINT", "value": "http://database:5432"}]
    made = children_for(source={"hub": {"repo": "a/b"}}, env=env)
    assert made.supporting[Kind.NETWORK_POLICY]["spec"]["egress"][2:] == [HUB]


def test_a_runner_without_a_policy_of_its_own_speaks_to_nobody() -> None:
    assert plain(closed("team-a")) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "inference-runners",
            "namespace": "team-a",
            "labels": {
                "app.kubernetes.io/name": "inference-runner",
                "app.kubernetes.io/managed-by": "inference",
            },
        },
        "spec": {
            "podSelector": {
                "matchExpressions": [{"key": "inference-server.dev/model", "operator": "Exists"}]
            },
            "policyTypes": ["Ingress", "Egress"],
        },
    }
