"""The models that are known, and how many replicas each shall have: one reading of Redis a tick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inference_contract.inferencemodel import InferenceModel
from inference_operator.autoscale import Decision
from inference_operator.loads import Load
from inference_operator.scaler import Scaler
from inference_operator.work_queue import Key

STATUS_SECONDS = 5.0
"""A status follows a load that changes all the time at this pace."""
_MIN_PAUSE = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Enrolled:
    model: InferenceModel
    """Its namespace is the owner."""
    replicas: int
    """Those that its Deployment has, when we first see it."""


@dataclass(frozen=True)
class Seen:
    decision: Decision
    load: Load | None
    """None if Redis did not say."""


@dataclass(frozen=True)
class _Roster:
    """The models to read, by id."""

    keys: dict[str, Key]
    models: dict[str, InferenceModel]
    replicas: dict[str, int]


class Fleet:
    """Thread-safe; `tick` is one thread's.

    Args:
        wake: is called with a key whose model somebody should look at.
    """

    def __init__(self, scaler: Scaler, wake: Callable[[Key], None], tick_seconds: float) -> None:
        self._scaler = scaler
        self._wake = wake
        self._tick_seconds = tick_seconds
        self._lock = threading.Lock()
        self._models: dict[Key, Enrolled] = {}
        self._roster: _Roster | None = None
        """Made anew by the next tick if None."""
        self._seen: dict[Key, Seen] = {}
        self._told: dict[Key, tuple[Seen, float]] = {}
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)
        self._last_tick: float | None = None

    def start(self) -> None:
        self._last_tick = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._hurry.set()
        self._thread.join(5)
        self._scaler.close()

    def silence(self) -> float:
        """Seconds since the last reading, with or without an answer; 0 before the start."""
        return 0.0 if self._last_tick is None else time.monotonic() - self._last_tick

    def enroll(self, key: Key, enrolled: Enrolled) -> None:
        """From now on the model's load is read."""
        with self._lock:
            before = self._models.get(key)
            if before != enrolled:
                self._models[key] = enrolled
                self._roster = None
        if before is None:
            self._hurry.set()

    def dismiss(self, key: Key) -> None:
        with self._lock:
            if self._models.pop(key, None) is not None:
                self._roster = None
            self._seen.pop(key, None)
            self._told.pop(key, None)

    def seen(self, key: Key) -> Seen | None:
        """What the last tick found; None before the first that knew the model."""
        with self._lock:
            return self._seen.get(key)

    def tick(self, now: float) -> None:
        with self._lock:
            roster = self._roster = self._roster or self._call_roll()
        loads = self._scaler.read(roster.models)
        decisions = self._scaler.decide(roster.models, loads, roster.replicas, now)
        news = []
        with self._lock:
            for model_id, key in roster.keys.items():
                decision, load = decisions[model_id], loads.get(model_id)
                told, _ = self._told.get(key, (None, 0.0))
                if told and told.decision is decision and told.load == load:
                    self._seen[key] = told
                elif key in self._models:  # Else it was dismissed since.
                    seen = self._seen[key] = Seen(decision, load)
                    if self._is_news(key, seen, now):
                        self._told[key] = (seen, now)
                        news.append(key)
        for key in news:
            self._wake(key)

    def _call_roll(self) -> _Roster:
        """A model whose owner just moved may be there twice, for as long as nobody looked at it."""
        return _Roster(
            keys={enrolled.model.id: key for key, enrolled in self._models.items()},
            models={enrolled.model.id: enrolled.model for enrolled in self._models.values()},
            replicas={enrolled.model.id: enrolled.replicas for enrolled in self._models.values()},
        )

    def _is_news(self, key: Key, seen: Seen, now: float) -> bool:
        told, at = self._told.get(key, (None, 0.0))
        if told is None or told.decision != seen.decision:
            return True
        return told.load != seen.load and now - at >= STATUS_SECONDS

    def _run(self) -> None:
        while not self._closing.wait(_MIN_PAUSE):
            try:
                self.tick(time.monotonic())
            except Exception:
                log.exception("this reading failed; the next one starts anew")
            self._last_tick = time.monotonic()
            self._hurry.wait(self._tick_seconds)
            self._hurry.clear()
