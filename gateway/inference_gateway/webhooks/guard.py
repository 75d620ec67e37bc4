"""Checks of webhook URLs: public addresses only, so that webhooks cannot reach private networks.

`check_url` checks the URL when a prediction is created. Names are resolved when a webhook is sent,
by `backend.py`."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from inference_gateway.errors import Invalid

PORTS = frozenset({80, 443, 8443})
MAX_URL_LENGTH = 2000
_Address = IPv4Address | IPv6Address
# Prefixes that Python 3.11's `is_global` accepts although they contain or reach private addresses:
# IPv4-compatible, NAT64, Teredo, 6to4, segment routing.
_TUNNELS = [
    ip_network(prefix)
    for prefix in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "5f00::/16")
]
_URL_CHARACTERS = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")


def is_public(address: _Address) -> bool:
    """Whether the address is an ordinary public one."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in tunnel for tunnel in _TUNNELS)


def is_loopback(address: _Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def literal_address(host: str) -> _Address | None:
    """The address of a host in any spelling that a resolver accepts: `127.1`, `0x7f000001` …"""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def check_url(url: str, allow_loopback: bool) -> None:
    """Raises Invalid, which names the field `webhook`, unless webhooks may be sent there."""
    problem = _problem(url, allow_loopback)
    if problem is not None:
        raise Invalid(f"The webhook {problem}.", errors=[{"field": "webhook", "message": problem}])


def split(url: str) -> tuple[SplitResult, str, int]:
    """The parts of a URL, its host and its port.

    Raises:
        ValueError: if it is not an absolute http or https URL.
    """
    if len(url) > MAX_URL_LENGTH or not _URL_CHARACTERS.fullmatch(url):
        raise ValueError("is not a URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("names no host")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts, parts.hostname, port


def _problem(url: str, allow_loopback: bool) -> str | None:
    try:
        parts, host, port = split(url)
    except ValueError as error:
        return str(error)
    if "@" in parts.netloc:
        return "must not hold credentials"
    address = literal_address(host)
    name = host.rstrip(".")
    local = is_loopback(address) if address else name == "localhost" or name.endswith(".localhost")
    if local:
        return (
            None
            if allow_loopback
            else "must not point at this machine, unless an administrator's does and is let to"
        )
    if address is not None and not is_public(address):
        return "must not point at a private address"
    if port not in PORTS:
        return f"must use one of the ports {', '.join(map(str, sorted(PORTS)))}"
    return None
