"""Narrows what the types of libraries leave open; the test fails where it is not so."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def there(value: T | None) -> T:
    """What an API may leave out, and here must not."""
    assert value is not None
    return value


def decoded(value: bytes | str) -> str:
    """A reply of Redis: bytes, or text where the client decodes."""
    return value if isinstance(value, str) else value.decode()
