"""The progress of pods' downloads, from their log lines, which are read periodically."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf

from inference_contract.pods import DOWNLOADING
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.manifests.fetch import FETCH
from inference_operator.cluster.pods.runner_pod import DownloadProgress, RunnerPod

PERIOD = 5.0
"""Seconds between two readings of a model's logs, and so between two updates of its status."""

ReadLog = Callable[[str, str, str], Sequence[str] | None]
"""Namespace, pod and container → the last lines of its log; None if they cannot be read."""


class Downloads:
    """Thread-safe as long as a key is looked at by one thread at a time."""

    def __init__(self, read: ReadLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._known: dict[Key, tuple[float, dict[str, DownloadProgress | None]]] = {}
        """When the logs were read, and the progress of each pod."""

    def with_progress(self, key: Key, pods: Sequence[RunnerPod]) -> list[RunnerPod]:
        downloading = [pod for pod in pods if pod.is_downloading and not pod.is_terminating]
        if not downloading:
            self.forget(key)
            return list(pods)
        read_at, said = self._known.get(key, (-PERIOD, {}))
        if self._clock() - read_at >= PERIOD:
            said = {pod.uid: last(self._read(key[0], pod.name, FETCH) or ()) for pod in downloading}
            self._known[key] = self._clock(), said
        return [
            replace(pod, progress=said.get(pod.uid)) if pod in downloading else pod for pod in pods
        ]

    def again(self, key: Key) -> float:
        """Seconds until the next reading of a model's logs; inf if it has no download."""
        return PERIOD if key in self._known else inf

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)


def last(lines: Sequence[str]) -> DownloadProgress | None:
    """The progress in the last line that has one."""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            if entry["event"] == DOWNLOADING:
                return DownloadProgress(int(entry["percent"]), int(entry["total_bytes"]))
        except (ValueError, KeyError, TypeError):
            continue
    return None


def message(repo: str, pods: Iterable[RunnerPod]) -> str:
    """The message for the most advanced download."""
    found = [pod.progress for pod in pods if pod.progress is not None]
    if not found:
        return f"downloading {repo}"
    ahead = max(found, key=lambda progress: progress.percent)
    return f"downloading {repo}: {ahead.percent} % of {_size(ahead.total_bytes)}"


def _size(size: int) -> str:
    """Decimal units: 1.2 GB."""
    for unit, step in (("GB", 1e9), ("MB", 1e6)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
