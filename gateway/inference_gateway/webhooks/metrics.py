"""What is counted of webhooks."""

from __future__ import annotations

from prometheus_client import Counter

ATTEMPTS = Counter("inference_webhook_attempts", "Webhooks sent, by what came of it.", ["outcome"])
