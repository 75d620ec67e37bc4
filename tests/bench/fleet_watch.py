"""Watches all models at the API server."""

from __future__ import annotations

import threading
import time
from typing import Any

import kubernetes.client
import kubernetes.watch

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION

Key = tuple[str, str]


class Watch:
    def __init__(self, api: kubernetes.client.ApiClient) -> None:
        self._custom = kubernetes.client.CustomObjectsApi(api)
        self._lock = threading.Lock()
        self._observed: dict[Key, int] = {}
        self._ready: set[Key] = set()
        self._at: dict[tuple[Key, int], float] = {}
        self.changes = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True

    def observed(self) -> int:
        """Models whose status has seen their document."""
        with self._lock:
            return sum(generation > 0 for generation in self._observed.values())

    def ready(self) -> int:
        with self._lock:
            return len(self._ready)

    def has_observed(self, key: Key, generation: int) -> bool:
        with self._lock:
            return self._observed.get(key, 0) >= generation

    def observed_at(self, key: Key, generation: int) -> float:
        """By the monotonic clock."""
        with self._lock:
            return self._at[key, generation]

    def _run(self) -> None:
        version = ""
        while not self._closing:
            stream = kubernetes.watch.Watch().stream(
                self._custom.list_cluster_custom_object,
                *(GROUP, VERSION, PLURAL),
                resource_version=version,
                timeout_seconds=300,
            )
            for event in stream:
                version = event["object"]["metadata"]["resourceVersion"]
                self._take(event["object"])

    def _take(self, model: dict[str, Any]) -> None:
        metadata, status = model["metadata"], model.get("status", {})
        key = metadata["namespace"], metadata["name"]
        generation = status.get("observedGeneration", 0)
        with self._lock:
            self.changes += 1
            self._observed[key] = generation
            self._at.setdefault((key, generation), time.monotonic())
            if status.get("readyReplicas"):
                self._ready.add(key)
