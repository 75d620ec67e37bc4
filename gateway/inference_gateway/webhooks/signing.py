"""Standard Webhooks: how a receiver knows that a webhook is ours, and meant now.

The scheme's own library signs a text as a whole, which would be copied twice: a body has up to
64 MB, and is signed in the pieces that it is sent in. The tests verify with that library.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from uuid import UUID

PREFIX = "whsec_"


def message_id(delivery: UUID) -> str:
    """The same for every attempt of a delivery: receivers drop duplicates."""
    return f"msg_{delivery}"


def headers(secret: str, message: str, timestamp: int, body: Iterable[bytes]) -> dict[str, str]:
    """The three headers.

    Args:
        secret: `whsec_` and standard base64.
        timestamp: unix seconds of this attempt.
        body: in pieces.

    Raises:
        ValueError: if the secret has another form.
    """
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    digest = hmac.new(key, f"{message}.{timestamp}.".encode(), hashlib.sha256)
    for piece in body:
        digest.update(piece)
    signature = base64.b64encode(digest.digest()).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
