"""What an API server says of a request that it refuses."""

from __future__ import annotations

from typing import Any

from inference_contract import values

_MOST = 200
"""Bytes of an answer that is no `Status`: a proxy in between may answer with anything."""


def read(content: bytes) -> dict[str, Any]:
    """The `Status` object; of any other answer its beginning, as the message."""
    try:
        found = values.parse(content)
    except ValueError:
        found = None
    beginning = content[:_MOST].decode(errors="replace")
    return {"message": beginning, **found} if isinstance(found, dict) else {"message": beginning}
