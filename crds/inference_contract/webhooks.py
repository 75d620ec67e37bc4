"""Events of webhooks."""

from __future__ import annotations

from enum import StrEnum


class WebhookEvent(StrEnum):
    """The events that a webhook can get, with Replicate's names."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


WHILE_RUNNING = (WebhookEvent.OUTPUT.value, WebhookEvent.LOGS.value)
"""Sent repeatedly."""
ONCE = tuple(event.value for event in WebhookEvent if event.value not in WHILE_RUNNING)
