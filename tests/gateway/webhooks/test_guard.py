from __future__ import annotations

import socket
import time
from ipaddress import ip_address

import httpcore
import pytest

from inference_gateway.errors import Invalid
from inference_gateway.webhooks.backend import AddressRefused, GuardedBackend
from inference_gateway.webhooks.guard import check_url, is_public


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hook?a=b&c=%20#x",
        "http://example.com:80/",
        "https://example.com:8443/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_public_urls_pass(url: str) -> None:
    check_url(url, allow_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://user:password@example.com/",
        "http://@example.com/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com\\@127.0.0.1/",
        "https://bücher.example/",
        "https://[::1/",
        "https://example.com/" + "a" * 2000,
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
        "http://0/",
        "http://255.255.255.255/",
        "http://224.0.0.1/",
        "http://3232235521/",
        "http://0xa.1/",
        "http://012.0.0.1/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[ff02::1]/",
        "http://[::]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001::7f00:1]/",
    ],
)
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_others_are_refused(url: str, allow_loopback: bool) -> None:
    with pytest.raises(Invalid) as caught:
        check_url(url, allow_loopback)
    assert [error["field"] for error in caught.value.errors] == ["webhook"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1:5000/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://localhost/",
        "http://localhost.:9/",
        "http://LOCALHOST/",
        "http://a.localhost/",
        "http://[::1]:5000/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
def test_this_machine_is_for_embedded_mode_only(url: str) -> None:
    check_url(url, allow_loopback=True)
    with pytest.raises(Invalid, match="this machine"):
        check_url(url, allow_loopback=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("169.254.169.254", False),
        ("5f00::1", False),
    ],
)
def test_is_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [(0, 0, 0, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize(
    ("addresses", "port", "allow_loopback"),
    [
        (["10.0.0.1"], 80, True),
        (["127.0.0.1"], 80, False),
        (["8.8.8.8", "10.0.0.1"], 80, True),
        (["127.0.0.1", "10.0.0.1"], 80, True),
        (["127.0.0.1", "8.8.8.8"], 80, True),
        (["::1"], 80, False),
        (["fe80::1%eth0"], 80, True),
        (["8.8.8.8"], 6379, True),
    ],
)
def test_names_of_inner_addresses_are_refused(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], port: int, allow_loopback: bool
) -> None:
    resolving_to(monkeypatch, *addresses)
    with pytest.raises(AddressRefused):
        GuardedBackend(time.monotonic() + 1, allow_loopback).connect_tcp("inner.example", port)


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    went_to: list[object] = []

    def connect(_: object, host: str, port: int, *rest: object) -> httpcore.NetworkStream:
        went_to.append((host, port))
        return httpcore.MockStream([])

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    resolving_to(monkeypatch, "8.8.8.8", "8.8.4.4")
    GuardedBackend(time.monotonic() + 1, False).connect_tcp("name.example", 443)
    assert went_to == [("8.8.8.8", 443)]


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is ::1 first, and most receivers on a machine listen on 127.0.0.1 only."""
    went_to = []

    def connect(_: object, host: str, *rest: object) -> httpcore.NetworkStream:
        went_to.append(host)
        if host == "::1":
            raise httpcore.ConnectError
        return httpcore.MockStream([])

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    resolving_to(monkeypatch, "::1", "127.0.0.1")
    GuardedBackend(time.monotonic() + 5, True).connect_tcp("localhost", 5000)
    assert went_to == ["::1", "127.0.0.1"]
