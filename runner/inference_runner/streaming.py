"""The growing output of a run: new parts, and all of it."""

from __future__ import annotations

import time
from typing import Any

import orjson

from inference_contract import values
from inference_contract.predictions import EventType, StreamEvent
from inference_contract.webhooks import WebhookEvent
from inference_runner import outputs
from inference_runner.redis.emitter import MAX_OUTPUT_BYTES
from inference_runner.runs import Run

NOTIFY_EVERY = 0.5
"""Seconds between two `output` events of one run."""


class StreamedOutput:
    """Collects the deltas of one run.

    Args:
        is_text: deltas are text that is joined, or objects; else items of a list.
    """

    def __init__(self, run: Run, *, is_text: bool) -> None:
        self.run = run
        run.growing = self
        self._is_text = is_text
        self._parts: list[Any] = []
        self._told = 0
        self._size = 0
        self._next_notice = 0.0
        self._notify = WebhookEvent.OUTPUT.value in run.job["notify"]

    def add(self, part: Any) -> None:
        """Raises TypeError or values.Unacceptable for an invalid output."""
        if not self._parts and isinstance(part, dict):
            self._is_text = False
        if self._is_text:
            part = values.text(part)
            self._size += len(part)
        else:  # A copy: the model's code may change it later.
            encoded = outputs.encode([part], [part])
            self._size += len(encoded)
            part = orjson.loads(encoded)[0]
        self._parts.append(part)

    @property
    def too_large(self) -> bool:
        return self._size > MAX_OUTPUT_BYTES

    @property
    def all(self) -> Any:
        return "".join(self._parts) if self._is_text else list(self._parts)

    @property
    def so_far(self) -> Any:
        """The output so far, or None: for runs that end early."""
        return self.all if self._parts else None

    def entries(self) -> list[StreamEvent]:
        """New output since the last call: one entry of text, or one for each item."""
        fresh, self._told = self._parts[self._told :], len(self._parts)
        if self._is_text and fresh:
            fresh = ["".join(fresh)]
        if self._is_text:
            return [{"type": EventType.OUTPUT.value, "output": part} for part in fresh]
        return [{"type": EventType.OUTPUT.value, "output": part, "item": True} for part in fresh]

    def notice_due(self) -> bool:
        """Whether an `output` event is due for the webhook."""
        now = time.monotonic()
        if not (self._notify and now >= self._next_notice and self._parts):
            return False
        self._next_notice = now + NOTIFY_EVERY
        return True
