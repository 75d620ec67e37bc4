"""What a webhook can be told."""

from __future__ import annotations

from enum import StrEnum


class WebhookEvent(StrEnum):
    """Replicate's names for what a webhook can be told."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


WHILE_RUNNING = (WebhookEvent.OUTPUT.value, WebhookEvent.LOGS.value)
"""Told again and again; the others once."""
