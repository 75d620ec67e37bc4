"""Standard Webhooks: how a receiver knows that a webhook is ours, and meant now."""

from __future__ import annotations

import base64
import hashlib
import hmac
from uuid import UUID

PREFIX = "whsec_"


def message_id(delivery: UUID) -> str:
    """The same for every attempt to deliver: receivers drop what they have seen."""
    return f"msg_{delivery}"


def headers(secret: str, message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers.

    Args:
        secret: `whsec_` and standard base64.
        timestamp: unix seconds of this attempt.

    Raises:
        ValueError: if the secret is not of that form.
    """
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    signed = f"{message}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
