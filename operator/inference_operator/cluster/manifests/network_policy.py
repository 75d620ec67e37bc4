"""A model's NetworkPolicy: its runners reach DNS, Redis, and the hub if the weights come from it.

Access to the public hub excludes private networks. A mirror's address is a setting, not a field of
the document: its author could otherwise allow access to any server.

Policies add up: custom code that needs more gets a further policy beside this one. The policy has
no owner reference: the garbage collector would remove it with the model, before the pods end. The
operator removes it after the pods.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from inference_contract.inferencemodel import Source
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import Parent, manifest
from inference_operator.cluster.manifests.pod import PORT

_DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
_HTTPS = [{"protocol": "TCP", "port": 443}]
_PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
_INTERNET = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": _PRIVATE}},
    {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
]


def network_policy(
    parent: Parent,
    labels: Mapping[str, str],
    redis_url: str,
    source: Source,
    hub_url: str | None = None,
) -> Manifest:
    """
    Args:
        hub_url: URL of a mirror; None: huggingface.co
    """
    egress: list[dict[str, Any]] = [_DNS, *_server(redis_url, 6379)]
    if source.hub is not None:
        egress += _hub(hub_url)
    spec = {
        "podSelector": {"matchLabels": parent.selector},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": PORT}]}],
        "egress": egress,
    }
    content = {"spec": spec}
    api = "networking.k8s.io/v1"
    return manifest(api, "NetworkPolicy", parent, labels, content, is_owned=False)


def _hub(url: str | None) -> list[dict[str, Any]]:
    """The rules for the hub. A mirror with a DNS name may redirect to other hosts by https; one
    with an IP address must serve everything itself."""
    if url is None:
        return [{"to": _INTERNET, "ports": _HTTPS}]
    mirror = _server(url, 80 if url.startswith("http:") else 443)
    is_address = any("to" in rule for rule in mirror)
    return mirror if is_address else [{"ports": _HTTPS}, *mirror]


def _server(url: str, default_port: int) -> list[dict[str, Any]]:
    """A rule for an IP address and port. For a DNS name: any host, as policies know no names."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return []
    rule: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": parts.port or default_port}]}
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return [rule]
    cidr = f"{address}/{address.max_prefixlen}"
    return [{"to": [{"ipBlock": {"cidr": cidr}}], **rule}]
