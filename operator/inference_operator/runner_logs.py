"""The last words of runners that failed, each read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Protocol

from inference_contract.inferencemodel import Reason
from inference_operator import troubles
from inference_operator.runner_pods import RunnerPod
from inference_operator.troubles import Trouble
from inference_operator.work_queue import Key

AGAIN = 2.0
"""Seconds until a log is read again that the kubelet did not have."""


class ReadLog(Protocol):
    def __call__(
        self, namespace: str, pod: str, container: str, *, previous: bool
    ) -> Sequence[str] | None:
        """The last lines of a container's log; None if they cannot be read."""


class RunnerLogs:
    """Thread-safe as long as a key is looked at by one thread at a time."""

    def __init__(self, read: ReadLog) -> None:
        self._read = read
        self._tails: dict[Key, tuple[tuple[str, str, int], Sequence[str] | None]] = {}
        """Pod, container and its restarts, and the log lines before the last of them."""

    def explain(self, key: Key, trouble: Trouble) -> Trouble:
        """With what the runner, or its download, said before it failed."""
        if not trouble.has_log:
            return trouble
        pod = trouble.pod
        start = (pod.uid, pod.container, pod.restarts)
        read, tail = self._tails.get(key, (None, None))
        if read != start or not tail:
            tail = self._last_lines(key[0], pod)
            self._tails[key] = start, tail
        words = troubles.last_words(tail or ()) if trouble.reason is Reason.LOAD_FAILED else ""
        message = f"{words}; {trouble.message}" if words else trouble.message
        return replace(trouble, message=message, log_tail=tail or ())

    def again(self, key: Key) -> float:
        """Seconds until there may be a log that the last look did not find; inf if it found all."""
        _, tail = self._tails.get(key, (None, ()))
        if tail is not None:
            return inf
        self.forget(key)
        return AGAIN

    def _last_lines(self, namespace: str, pod: RunnerPod) -> Sequence[str] | None:
        """Of the run that ended. By now the next may have begun, of which we have not heard."""
        is_last = pod.end is not None and pod.end.is_last
        where = (namespace, pod.name, pod.container)
        current = self._read(*where, previous=False) if is_last else None
        if current:
            return current
        before = self._read(*where, previous=True)
        return current if before is None else before

    def forget(self, key: Key) -> None:
        self._tails.pop(key, None)
