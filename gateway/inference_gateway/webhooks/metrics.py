"""Metrics of webhooks."""

from __future__ import annotations

from prometheus_client import Counter

ATTEMPTS = Counter("inference_webhook_attempts", "Webhooks sent, by outcome.", ["outcome"])
