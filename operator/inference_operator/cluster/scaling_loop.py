"""Keeps the replicas that each known model needs, with one reading of Redis a tick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inference_contract.inferencemodel import InferenceModel
from inference_operator.cluster.api.objects import Key
from inference_operator.scaling.decide import Decision
from inference_operator.scaling.load import Load
from inference_operator.scaling.scaler import Scaler

STATUS_SECONDS = 5.0
"""Seconds between two status updates of a model whose load changes constantly."""
_MIN_PAUSE = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    model: InferenceModel
    """Its namespace is replaced by the owner."""
    replicas: int
    """The replicas of its Deployment when the model was first tracked."""


@dataclass(frozen=True)
class Seen:
    decision: Decision
    load: Load | None
    """None if it could not be read from Redis."""


@dataclass(frozen=True)
class _Models:
    """The models to read, by id."""

    keys: dict[str, Key]
    models: dict[str, InferenceModel]
    replicas: dict[str, int]


class ScalingLoop:
    """Thread-safe; `tick` is one thread's.

    Args:
        wake: called with a key that must be reconciled.
    """

    def __init__(self, scaler: Scaler, wake: Callable[[Key], None], tick_seconds: float) -> None:
        self._scaler = scaler
        self._wake = wake
        self._tick_seconds = tick_seconds
        self._lock = threading.Lock()
        self._models: dict[Key, Tracked] = {}
        self._snapshot: _Models | None = None
        """None: the next tick builds it again."""
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
        """Seconds since the last reading, successful or not; 0 before the start."""
        return 0.0 if self._last_tick is None else time.monotonic() - self._last_tick

    def track(self, key: Key, tracked: Tracked) -> None:
        """Read the model's load from the next tick on."""
        with self._lock:
            before = self._models.get(key)
            if before != tracked:
                self._models[key] = tracked
                self._snapshot = None
        if before is None:
            self._hurry.set()

    def forget(self, key: Key) -> None:
        with self._lock:
            if self._models.pop(key, None) is not None:
                self._snapshot = None
            self._seen.pop(key, None)
            self._told.pop(key, None)

    def seen(self, key: Key) -> Seen | None:
        """The result of the last tick; None before the model's first tick."""
        with self._lock:
            return self._seen.get(key)

    def tick(self, now: float) -> None:
        with self._lock:
            snapshot = self._snapshot = self._snapshot or self._models_now()
        loads = self._scaler.read(snapshot.models)
        decisions = self._scaler.decide(snapshot.models, loads, snapshot.replicas, now)
        news = []
        with self._lock:
            for model_id, key in snapshot.keys.items():
                decision, load = decisions[model_id], loads.get(model_id)
                told, _ = self._told.get(key, (None, 0.0))
                if told and told.decision is decision and told.load == load:
                    self._seen[key] = told
                elif key in self._models:  # Otherwise it was removed meanwhile.
                    seen = self._seen[key] = Seen(decision, load)
                    if self._is_news(key, seen, now):
                        self._told[key] = (seen, now)
                        news.append(key)
        for key in news:
            self._wake(key)

    def _models_now(self) -> _Models:
        """A model whose owner just moved may be tracked twice until both keys are reconciled."""
        return _Models(
            keys={tracked.model.id: key for key, tracked in self._models.items()},
            models={tracked.model.id: tracked.model for tracked in self._models.values()},
            replicas={tracked.model.id: tracked.replicas for tracked in self._models.values()},
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
                log.exception("a reading of the load failed; the next one starts afresh")
            self._last_tick = time.monotonic()
            self._hurry.wait(self._tick_seconds)
            self._hurry.clear()
