"""What a Redis URL says, to us as to redis-py: a test compares the two.

redis-py's own parser cannot be had without the rest of it, which is half of this process' memory.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AfterValidator

_SCHEMES = ("redis", "rediss", "unix")
_NO_URL = (
    "is no redis://, rediss:// or unix:// URL: write what is special in a password as %XX, and the "
    "database as a number"
)


@dataclass(frozen=True)
class RedisAddress:
    socket: str = ""
    """Path of a Unix socket; empty: TCP."""
    is_encrypted: bool = False
    host: str = "localhost"
    port: int = 6379
    username: str = ""
    password: str = ""
    database: str = "0"


def parse(url: str) -> RedisAddress:
    """What the query says of the database goes before the path, and the user before the query.

    Raises:
        ValueError: it is none; the message may quote what is a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"unknown scheme {parts.scheme!r}")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    is_unix = parts.scheme == "unix"
    database = "0"
    if not is_unix:
        with suppress(ValueError):
            database = str(int(unquote(parts.path).replace("/", "")))
    if "db" in query:
        database = str(int(query["db"]))
    return RedisAddress(
        socket=unquote(parts.path) if is_unix else "",
        is_encrypted=parts.scheme == "rediss",
        host=unquote(parts.hostname or "localhost"),
        port=parts.port or 6379,
        username=unquote(parts.username or "") or query.get("username", ""),
        password=unquote(parts.password or "") or query.get("password", ""),
        database=database,
    )


def _checked(url: str) -> str:
    try:
        parse(url)
    except ValueError:
        raise ValueError(_NO_URL) from None
    return url


RedisUrl = Annotated[str, AfterValidator(_checked)]
"""Of a setting: read once at the start, lest a wrong one be found out later."""
