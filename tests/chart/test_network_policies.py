"""Who may speak to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inference_contract.pods import LABEL_MODEL, LABEL_OWNER

NAME = "inf-inference-server"
End = tuple[list[int | str], list[Any]]
"""Of an allowed connection: ports, and peers."""


def policy(made: Any, component: str) -> dict[str, Any]:
    spec: dict[str, Any] = made.one("NetworkPolicy", f"{NAME}-{component}")["spec"]
    assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
    return spec


def ends(rules: list[dict[str, Any]], key: str) -> list[End]:
    """The ports, and who: a component, a CIDR, or the peer as it is."""
    found: list[End] = []
    for rule in rules:
        peers = []
        for peer in rule.get(key, ()):
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            cidr = peer.get("ipBlock", {}).get("cidr")
            peers.append(labels.get("app.kubernetes.io/component") or cidr or peer)
        found.append(([port["port"] for port in rule["ports"]], peers))
    return found


DNS: End = ([53, 53], [])
API_SERVER: End = ([443, 6443], [])
POSTGRESQL = ([5432], ["postgresql"])
VALKEY = ([6379], ["valkey"])
EGRESS = {
    "gateway": [DNS, POSTGRESQL, VALKEY, API_SERVER],
    "dispatch": [DNS, POSTGRESQL, VALKEY, ([80, 443, 8443], ["0.0.0.0/0"])],
    "operator": [DNS, VALKEY, API_SERVER],
    "migrate": [DNS, POSTGRESQL],
    "test": [DNS, (["http"], ["gateway"])],
    "postgresql": [],
    "valkey": [],
}


@pytest.mark.parametrize("component", EGRESS)
def test_who_a_component_may_speak_to(render: Callable[..., Any], component: str) -> None:
    spec = policy(render(), component)
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert ends(spec.get("egress", []), "to") == EGRESS[component]


def test_who_may_speak_to_a_component(render: Callable[..., Any]) -> None:
    made = render()
    runners = {
        "namespaceSelector": {"matchExpressions": [{"key": LABEL_OWNER, "operator": "Exists"}]},
        "podSelector": {"matchExpressions": [{"key": LABEL_MODEL, "operator": "Exists"}]},
    }
    anyone: dict[str, Any] = {"namespaceSelector": {}}
    found = {name: ends(policy(made, name).get("ingress", []), "from") for name in EGRESS}
    assert found == {
        "gateway": [(["http"], [])],
        "dispatch": [(["metrics"], [anyone])],
        "operator": [(["metrics"], [anyone])],
        "migrate": [],
        "test": [],
        "postgresql": [(["postgresql"], ["gateway", "dispatch", "migrate"])],
        "valkey": [(["redis"], ["gateway", "dispatch", "operator", runners])],
    }


PROXY = {"namespaceSelector": {"matchLabels": {"name": "ingress"}}}
PROMETHEUS = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}


@pytest.mark.parametrize(
    ("monitored", "peers"), [(False, [PROXY, "test"]), (True, [PROXY, "test", PROMETHEUS])]
)
def test_a_closed_api_is_open_to_its_test_and_to_those_who_measure(
    render: Callable[..., Any], monitored: bool, peers: list[Any]
) -> None:
    made = render(
        {
            "networkPolicy": {"gatewayFrom": [PROXY], "metricsFrom": [PROMETHEUS]},
            "serviceMonitor": {"enabled": monitored},
        }
    )
    assert ends(policy(made, "gateway")["ingress"], "from") == [(["http"], peers)]


PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
# (networkPolicy.webhooks, where webhooks may go)
WEBHOOKS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"cidr": "0.0.0.0/0", "except": PRIVATE}),
    ({"except": []}, {"cidr": "0.0.0.0/0"}),
    ({"except": ["10.0.0.0/8"]}, {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}),
    # Kubernetes refuses an exception that is not within the CIDR.
    ({"cidr": "203.0.113.0/24"}, {"cidr": "203.0.113.0/24"}),
    (
        {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]},
        {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]},
    ),
]


@pytest.mark.parametrize(("webhooks", "block"), WEBHOOKS)
def test_where_webhooks_may_go(
    render: Callable[..., Any], webhooks: dict[str, Any], block: dict[str, Any]
) -> None:
    *_, rule = policy(render({"networkPolicy": {"webhooks": webhooks}}), "dispatch")["egress"]
    assert rule["to"] == [{"ipBlock": block}]


def test_all_else_is_refused(render: Callable[..., Any]) -> None:
    spec = render().one("NetworkPolicy", NAME)["spec"]
    assert spec == {
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/name": "inference-server",
                "app.kubernetes.io/instance": "inf",
            }
        },
        "policyTypes": ["Ingress", "Egress"],
    }


def test_external_servers_are_reached_by_address_and_port(render: Callable[..., Any]) -> None:
    made = render(
        {
            "externalDatabase": {"existingSecret": "db", "port": 6432, "cidrs": ["10.1.0.0/16"]},
            "externalRedis": {"existingSecret": "redis"},
            "networkPolicy": {"apiServer": {"ports": [6443], "cidrs": ["10.0.0.1/32"]}},
        }
    )
    assert ends(policy(made, "gateway")["egress"], "to") == [
        DNS,
        ([6432], ["10.1.0.0/16"]),
        ([6379], []),
        ([6443], ["10.0.0.1/32"]),
    ]
    assert not {f"{NAME}-postgresql", f"{NAME}-valkey"} & set(made.names("NetworkPolicy"))
