"""Limits the open streams: each holds a connection and some 50 KiB of this process."""

from __future__ import annotations

from collections import Counter

from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import TooManyRequests, Unavailable
from inference_gateway.predictions.metrics import STREAM_READERS
from inference_gateway.quotas import metrics
from inference_gateway.settings import GatewaySettings

_RETRY_AFTER = {"Retry-After": "5"}


class Readers:
    """Counts the streams of this process by account. For one event loop."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._most = settings.max_streams
        self._quota = settings.quota_streams
        self._of: Counter[str] = Counter()
        self._count = 0

    def enter(self, user: Principal) -> None:
        """Count a stream; call `leave` at its end. Raises TooManyRequests, Unavailable."""
        if 0 < self._quota <= self._of[user.user_id] and not user.is_admin:
            metrics.REFUSED.labels("streams").inc()
            raise TooManyRequests(
                f"Request was throttled. {self._quota} streams of yours may be open "
                "(QUOTA_STREAMS): close some, or poll GET /v1/predictions/{id}.",
                headers=_RETRY_AFTER,
            )
        if self._count >= self._most:
            raise Unavailable(
                f"{self._most} streams are open (MAX_STREAMS), no more are served just now: "
                "try again, or poll GET /v1/predictions/{id}",
                headers=_RETRY_AFTER,
            )
        self._count += 1
        STREAM_READERS.inc()
        self._of[user.user_id] += 1

    def leave(self, user: Principal) -> None:
        self._count -= 1
        STREAM_READERS.dec()
        self._of[user.user_id] -= 1
        if not self._of[user.user_id]:
            del self._of[user.user_id]
