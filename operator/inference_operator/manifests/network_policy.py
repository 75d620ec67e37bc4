"""What a model's runners may talk to: names, Redis, and the hub if the weights come from there.

The hub's address is a setting, and none that a document may name: whoever writes one could open the
way to any server with it.

Policies add up: custom code that needs more gets a policy of its own beside this one. It has no
owner, for then it would go with the model, before the pods: the operator removes it after them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from inference_contract.inferencemodel import Source
from inference_operator.manifests.child import Manifest, Parent, manifest
from inference_operator.manifests.pod import PORT

_DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
_HUB = {"ports": [{"protocol": "TCP", "port": 443}]}


def network_policy(
    parent: Parent,
    labels: Mapping[str, str],
    redis_url: str,
    source: Source,
    hub_url: str | None = None,
) -> Manifest:
    """
    Args:
        hub_url: of a mirror, which may send on to other hosts by https; None: huggingface.co
    """
    egress: list[dict[str, Any]] = [_DNS, *_server(redis_url, 6379)]
    if source.hub is not None:
        egress.append(_HUB)
        if hub_url is not None:
            egress += _server(hub_url, 80 if hub_url.startswith("http:") else 443)
    spec = {
        "podSelector": {"matchLabels": parent.selector},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": PORT}]}],
        "egress": egress,
    }
    content = {"spec": spec}
    api = "networking.k8s.io/v1"
    return manifest(api, "NetworkPolicy", parent, labels, content, is_owned=False)


def _server(url: str, default_port: int) -> list[dict[str, Any]]:
    """To any host that has the port, for a policy knows no names; an address is taken as it is."""
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
