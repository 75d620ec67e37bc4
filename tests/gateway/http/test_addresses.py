"""Whose address counts: what a header says is believed of trusted proxies only."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from inference_gateway.http.addresses import Proxies, client_of, parse_networks, site
from inference_gateway.settings import GatewaySettings

PROXIES = "10.0.0.0/8, 127.0.0.1, 2001:db8:1::/48"

# (trusted, peer, X-Forwarded-For, whose address)
FORWARDED = [
    ("", "127.0.0.1", ["1.2.3.4"], "127.0.0.1"),
    ("", "::1", ["1.2.3.4"], "::1"),
    (PROXIES, "203.0.113.5", ["1.2.3.4"], "203.0.113.5"),
    (PROXIES, "10.1.1.1", [], "10.1.1.1"),
    (PROXIES, "10.1.1.1", ["1.2.3.4"], "1.2.3.4"),
    (PROXIES, "127.0.0.1", ["1.2.3.4"], "1.2.3.4"),
    # What the caller wrote stands further left.
    (PROXIES, "10.1.1.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
    (PROXIES, "10.1.1.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
    (PROXIES, "10.1.1.1", ["6.6.6.6, 1.2.3.4, 10.2.2.2"], "1.2.3.4"),
    (PROXIES, "10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
    (PROXIES, "10.1.1.1", [" 1.2.3.4:5678 "], "1.2.3.4"),
    (PROXIES, "10.1.1.1", ['"[2001:db8:9::1]:5678"'], "2001:db8:9::1"),
    (PROXIES, "10.1.1.1", ["2001:db8:9::1"], "2001:db8:9::1"),
    (PROXIES, "2001:db8:1::7", ["fe80::1%eth0"], "fe80::1"),
    (PROXIES, "::ffff:10.1.1.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
    # Garbage ends the chain at whoever handed it on.
    (PROXIES, "10.1.1.1", ["6.6.6.6, nonsense"], "10.1.1.1"),
    (PROXIES, "10.1.1.1", ["6.6.6.6, unknown, 10.2.2.2"], "10.2.2.2"),
    (PROXIES, "10.1.1.1", [""], "10.1.1.1"),
    (PROXIES, "10.1.1.1", ["1.2.3.4,"], "10.1.1.1"),
    (PROXIES, "10.1.1.1", ["1.2.3.4, 300.1.1.1"], "10.1.1.1"),
    (PROXIES, "10.1.1.1", ["6.6.6.6," + "10.2.2.2," * 5000 + "1.2.3.4"], "1.2.3.4"),
]


@pytest.mark.parametrize(("trusted", "peer", "forwarded", "address"), FORWARDED)
def test_whose_address_it_is(trusted: str, peer: str, forwarded: list[str], address: str) -> None:
    scope: dict[str, Any] = {
        "client": (peer, 4321),
        "scheme": "http",
        "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded],
    }
    Proxies(parse_networks(trusted)).resolve(scope)
    assert client_of(scope) == address


@pytest.mark.parametrize(
    ("peer", "proto", "scheme"),
    [
        ("10.1.1.1", b"https", "https"),
        ("10.1.1.1", b"http, https", "https"),
        ("10.1.1.1", b"javascript", "http"),
        ("203.0.113.5", b"https", "http"),
    ],
)
def test_the_scheme_too(peer: str, proto: bytes, scheme: str) -> None:
    scope: dict[str, Any] = {
        "client": (peer, 1),
        "scheme": "http",
        "headers": [(b"x-forwarded-proto", proto)],
    }
    Proxies(parse_networks(PROXIES)).resolve(scope)
    assert scope["scheme"] == scheme


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:db8:9:1:2:3:4:5", "2001:db8:9:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_ipv6_counts_by_the_line(address: str, whose: str) -> None:
    assert site(address) == whose


def test_a_proxy_that_is_no_network_is_refused(settings: GatewaySettings) -> None:
    with pytest.raises(ValidationError, match=r"10\.0\.0\.0/33"):
        GatewaySettings(**{**settings.model_dump(), "trusted_proxies": "10.0.0.0/33"})
