"""How far the downloads of pods are: from their log lines, which are read now and then."""

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
"""Seconds between two readings of the same model's logs, so between two statuses that say so."""

ReadLog = Callable[[str, str, str], Sequence[str] | None]
"""Namespace, pod and container → the last lines of its log; None if they cannot be read."""


class Downloads:
    """Thread-safe as long as a key is looked at by one thread at a time."""

    def __init__(self, read: ReadLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._known: dict[Key, tuple[float, dict[str, DownloadProgress | None]]] = {}
        """When the logs were read, and what each pod's said."""

    def with_progress(self, key: Key, pods: Sequence[RunnerPod]) -> list[RunnerPod]:
        downloading = [pod for pod in pods if pod.is_downloading and not pod.is_going]
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
        """Seconds until there may be more to tell of a model; inf if nothing of it downloads."""
        return PERIOD if key in self._known else inf

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)


def last(lines: Sequence[str]) -> DownloadProgress | None:
    """What the last line says that says how far it is."""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            if entry["event"] == DOWNLOADING:
                return DownloadProgress(int(entry["percent"]), int(entry["total_bytes"]))
        except (ValueError, KeyError, TypeError):
            continue
    return None


def words(repo: str, pods: Iterable[RunnerPod]) -> str:
    """Of the download that is ahead of the others."""
    found = [pod.progress for pod in pods if pod.progress is not None]
    if not found:
        return f"downloading {repo}"
    ahead = max(found, key=lambda progress: progress.percent)
    return f"downloading {repo}: {ahead.percent} % of {_size(ahead.total_bytes)}"


def _size(size: int) -> str:
    """Decimal, as files are sold: 1.2 GB."""
    for unit, step in (("GB", 1e9), ("MB", 1e6)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
