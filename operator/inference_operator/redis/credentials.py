"""The Redis URL of a model's runners, with its user: the content of the model's Secret."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from inference_contract.pods import RunnerEnv
from inference_operator.redis import address
from inference_operator.redis.acl import user_name

_CREDENTIALS = ("username", "password")
"""redis-py takes them from a URL's query too."""


def runner_url(
    key: str,
    url: str,
    earlier: Iterable[str] = (),
    new_password: Callable[[], str] = lambda: secrets.token_urlsafe(32),
) -> str:
    """The URL for the runners of a model, with its own user.

    Args:
        key: the model's.
        url: the operator's own URL.
        earlier: URLs that the runners may have now; the first password of this user is kept.
    """
    user = user_name(key, address.parse(url).database)
    kept = (_password(known, user) for known in earlier)
    password = next(filter(None, kept), "") or new_password()
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in _CREDENTIALS]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(query)))


def url_in(secret: Mapping[str, Any] | None) -> str:
    """The URL in a model's Secret as read from the cluster; empty if it has none."""
    try:
        return base64.b64decode((secret or {})["data"][RunnerEnv.REDIS_URL]).decode()
    except (KeyError, TypeError, ValueError):
        return ""


def _password(url: str, user: str) -> str:
    """The password in the URL; empty if the URL is empty or has another user."""
    try:
        known = address.parse(url)
    except ValueError:
        return ""
    return known.password if known.username == user else ""
