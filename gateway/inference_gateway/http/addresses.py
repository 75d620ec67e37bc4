"""The client's address. X-Forwarded-For is used only from trusted proxies."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = "unknown"
_MAX_HOPS = 32
"""Entries of X-Forwarded-For that are read, from the right; longer chains are not realistic."""
_SITE_BITS = 64
"""Network bits of an IPv6 address: a subscriber chooses the rest."""


def parse_networks(text: str) -> list[Network]:
    """Parse addresses and networks, separated by commas.

    Raises:
        ValueError: names the invalid item.
    """
    return [ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()]


def site(address: str) -> str:
    """The key for limits: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        return str(ip_network(f"{address.partition('%')[0]}/{_SITE_BITS}", strict=False))
    except ValueError:
        return UNKNOWN


def client_of(scope: Scope) -> str:
    """The address of a request that has passed the middleware."""
    client = scope.get("client")
    return client[0] if client else UNKNOWN


class Proxies:
    """Uses `X-Forwarded-For` and `X-Forwarded-Proto` of trusted proxies."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def resolve(self, scope: Scope) -> None:
        """Set `client` and `scheme` of the scope to the caller's."""
        if not self._trusted or (client := scope.get("client")) is None:
            return
        peer = _parse(client[0])
        if peer is None or not self._trusts(peer):
            return
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == _FOR]
        scope["client"] = (str(self._caller(peer, ",".join(given))), 0)
        schemes = [value for name, value in scope["headers"] if name == _PROTO]
        if schemes and (scheme := schemes[-1].rpartition(b",")[2].strip().lower()) in _SCHEMES:
            scope["scheme"] = scheme.decode()

    def _caller(self, peer: Address, forwarded: str) -> Address:
        """The first address from the right that is not a trusted proxy. Entries to the left of it,
        or of an invalid one, are not trusted."""
        caller = peer
        for hop in reversed(forwarded.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]):
            found = _parse(hop)
            if found is None:
                return caller
            caller = found
            if not self._trusts(caller):
                return caller
        return caller

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"
_SCHEMES = (b"http", b"https")


def _parse(text: str) -> Address | None:
    """An address as proxies write it: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1]:80."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
