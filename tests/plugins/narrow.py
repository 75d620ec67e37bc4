"""Narrows types of libraries; the test fails if a value has another type."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def there(value: T | None) -> T:
    """A value that the type declares optional, and that must not be None here."""
    assert value is not None
    return value


def decoded(value: bytes | str) -> str:
    """A reply of Redis as text: it is bytes unless the client decodes."""
    return value if isinstance(value, str) else value.decode()
