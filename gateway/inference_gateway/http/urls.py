"""Checks the URL and the Host header once, before other code reads them.

Libraries treat invalid ones differently: PostgreSQL refuses NUL, URL parsers raise at an invalid
Host, bytes that are not UTF-8 are silently replaced, and of a duplicate parameter some take the
first value, others the last.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes

from inference_contract.field_errors import FieldError
from inference_gateway.errors import BadRequest, Invalid

PROBES = "/health"
"""Probes of Kubernetes and monitoring; never refused."""

_HOST = re.compile(rb"[A-Za-z0-9._~-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_known_hosts: dict[bytes, None] = {}
_MAX_KNOWN_HOSTS = 100
_MAX_PARAMETERS = 100
"""More than any route takes. Each parameter costs time on the event loop."""


def check(scope: Any, host: bytes) -> None:
    """Raises BadRequest, Invalid."""
    if host not in _known_hosts:
        _check_host(host, scope["http_version"])
    query = scope["query_string"]
    if query.count(b"&") >= _MAX_PARAMETERS:
        raise BadRequest(f"the URL has more than {_MAX_PARAMETERS} parameters")
    if b"%" in query:
        for pair in query.split(b"&"):
            _check_text(pair, f"query.{pair.partition(b'=')[0].decode('latin-1')}")
    if b"&" in query:
        _check_names(query)
    if b"%" in scope["raw_path"]:
        _check_text(scope["raw_path"], "path")


def _check_host(host: bytes, http_version: str) -> None:
    if not host:
        if http_version == "1.0":  # HTTP/1.0 has no Host header.
            return
        raise BadRequest("there is no Host header: HTTP/1.1 asks for one")
    if not _HOST.fullmatch(host):
        raise BadRequest("the Host header is no host name or address")
    if len(_known_hosts) >= _MAX_KNOWN_HOSTS:
        _known_hosts.clear()
    _known_hosts[host] = None


def _check_names(query: bytes) -> None:
    """Refuse duplicate parameters: no route takes a list, and parsers silently take the last."""
    seen: set[str] = set()
    for pair in query.split(b"&"):
        if not pair:
            continue
        name = unquote_plus(pair.partition(b"=")[0].decode("latin-1"))
        if name in seen:
            field = f"query.{name}"
            errors: list[FieldError] = [{"field": field, "message": "is there twice"}]
            raise BadRequest(f"{field} is there twice: send one", errors=errors)
        seen.add(name)


def _check_text(encoded: bytes, part: str) -> None:
    try:
        text = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError as error:
        raise _invalid(part, "is not UTF-8") from error
    if "\0" in text:
        raise _invalid(part, "holds the character U+0000")


def _invalid(part: str, message: str) -> Invalid:
    return Invalid(f"{part} {message}", errors=[{"field": part, "message": message}])
