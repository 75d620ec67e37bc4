"""Sends due webhook deliveries, at least once: if the process is killed between sending and storing
the outcome, the delivery is sent again with the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any
from uuid import UUID

from inference_gateway.background import set_aside
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.postgres import stored
from inference_gateway.webhooks import metrics, signing
from inference_gateway.webhooks.claims import MOST, Claimed, Claims, Receiver
from inference_gateway.webhooks.reading import ContentReader, NoRoom, WebhookRow
from inference_gateway.webhooks.retry import DeliveryState, Receipt, conclude
from inference_gateway.webhooks.sending import Sender

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5
_SLOW_SECONDS = 2.0
_SLOW_FOR = 300.0
"""How long an owner counts as slow after one of its receivers took more than `_SLOW_SECONDS`."""
Render = Callable[[Row], Mapping[str, Any]]
"""A row of `predictions` → the body of a webhook."""


class Delivery:
    """Sends due deliveries, each on a thread.

    Args:
        threads: a pool of `claims.MOST` threads. wake: set by the recorder when there are new
        deliveries, and by this class when more are due.
    """

    def __init__(
        self,
        claims: Claims,
        content: ContentReader,
        sender: Sender,
        render: Render,
        *,
        threads: Executor,
        wake: threading.Event,
    ) -> None:
        self._claims = claims
        self._content = content
        self._sender = sender
        self._render = render
        self._threads = threads
        self._wake = wake
        self._lock = threading.Lock()
        self._active: Counter[Receiver] = Counter()
        self._slow: dict[UUID, float] = {}
        """Owner → until when they count as slow, by the monotonic clock."""

    def step(self) -> float:
        """Claim due deliveries and hand them to the threads."""
        with self._lock:
            active = +self._active
        slow = self._slow_owners()
        if active.total() < MOST:
            later = []
            ours = self._claims.take(active, slow)
            found = self._content.together({claimed.prediction_id for claimed in ours})
            for claimed in ours:
                row = found.get(claimed.prediction_id)
                if row is None or row["is_small"] or self._content.enter(claimed.owner):
                    with self._lock:
                        self._active[claimed.receiver] += 1
                    self._threads.submit(self._deliver, claimed, row)
                else:
                    later.append(claimed.id)
            if later:
                self._claims.put_back(later)
        return _POLL_SECONDS

    def _slow_owners(self) -> set[UUID]:
        with self._lock:
            now = time.monotonic()
            self._slow = {owner: until for owner, until in self._slow.items() if until > now}
            return set(self._slow)

    def _deliver(self, claimed: Claimed, row: WebhookRow | None) -> None:
        held = 0
        try:
            if row is not None and not row["is_small"]:
                row, held = self._content.large(row, self._slow_owners())
                self._wake.set()  # for the next large one
            answer = self._attempt(claimed, row)
            self._mark(claimed, answer)
        except NoRoom:
            self._claims.put_back([claimed.id])
        except Exception:  # its claim expires, and it is sent again
            _log.exception("a webhook could not be read or marked", extra=_story(claimed))
        finally:
            self._content.give(claimed.owner, held)
            with self._lock:
                self._active[claimed.receiver] -= 1
            self._wake.set()

    def _attempt(self, claimed: Claimed, row: WebhookRow | None) -> Receipt:
        began = time.monotonic()
        try:
            return self._send(claimed, row)
        except Exception as error:  # also unexpected errors count as an attempt
            _log.exception("a webhook could not be sent", extra=_story(claimed))
            return Receipt(error=f"{type(error).__name__}: {error}")
        finally:
            if (now := time.monotonic()) - began > _SLOW_SECONDS:
                with self._lock:
                    self._slow[claimed.owner] = now + _SLOW_FOR

    def _send(self, claimed: Claimed, row: WebhookRow | None) -> Receipt:
        if row is None:
            return Receipt(error="the account is gone", final=True)
        try:
            body = stored.in_pieces(self._render(row))
        except Exception as error:  # tried again, it would fail again
            set_aside.ITEMS.labels("webhooks").inc()
            _log.exception("a prediction cannot be sent", extra=_story(claimed))
            return Receipt(error=f"the prediction cannot be sent: {error}", final=True)
        message = signing.message_id(claimed.id)
        headers = signing.headers(row["webhook_secret"], message, int(time.time()), body)
        return self._sender.send(claimed.url, headers, body, trusted=row["is_admin"])

    def _mark(self, claimed: Claimed, answer: Receipt) -> None:
        following = conclude(claimed.attempt, answer, random.random())
        self._claims.mark(claimed.id, answer, following)
        metrics.ATTEMPTS.labels(following.state.value).inc()
        if following.state is not DeliveryState.DELIVERED:
            _log.warning(
                "webhook %s: %s", following.state.value, answer.error, extra=_story(claimed)
            )


def _story(claimed: Claimed) -> dict[str, object]:
    return {"prediction": str(claimed.prediction_id), "delivery": str(claimed.id)}
