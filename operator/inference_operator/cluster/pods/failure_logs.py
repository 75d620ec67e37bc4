"""The last log lines of failed runners, each log read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple, Protocol

from inference_contract.inferencemodel import Reason
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.pods import diagnosis
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.runner_pod import RunnerPod

AGAIN = 2.0
"""Seconds until a log that the kubelet could not read is tried again."""


_VERSIONS = 2
"""Versions of a model whose pods are diagnosed: the document's, and the last that worked."""


class _Start(NamedTuple):
    pod: str
    container: str
    restarts: int


class ReadLog(Protocol):
    def __call__(
        self, namespace: str, pod: str, container: str, *, previous: bool
    ) -> Sequence[str] | None:
        """The last lines of a container's log; None if they cannot be read."""


class FailureLogs:
    """Thread-safe as long as one thread at a time works on a key."""

    def __init__(self, read: ReadLog) -> None:
        self._read = read
        self._tails: dict[Key, dict[_Start, Sequence[str] | None]] = {}
        """The last lines before each start of a container; None if they could not be read."""

    def explain(self, key: Key, problem: PodProblem) -> PodProblem:
        """The problem with the last log lines of the failed runner or download."""
        if not problem.has_log:
            return problem
        pod = problem.pod
        start = _Start(pod.uid, pod.container, pod.restarts)
        known = self._tails.get(key, {})
        if not (tail := known.get(start)):
            tail = self._last_lines(key[0], pod)
        others = [item for item in known.items() if item[0] != start]
        self._tails[key] = dict([*others, (start, tail)][-_VERSIONS:])
        error = diagnosis.last_error(tail or ()) if problem.reason is Reason.LOAD_FAILED else ""
        message = f"{error}; {problem.message}" if error else problem.message
        return replace(problem, message=message, log_tail=tail or ())

    def again(self, key: Key) -> float:
        """Seconds until a missing log is tried again; inf if none is missing."""
        known = self._tails.get(key, {})
        missing = [start for start, tail in known.items() if tail is None]
        for start in missing:
            del known[start]
        return AGAIN if missing else inf

    def _last_lines(self, namespace: str, pod: RunnerPod) -> Sequence[str] | None:
        """The last lines of the run that ended. The next may have started unseen."""
        is_last = pod.end is not None and pod.end.is_last
        where = (namespace, pod.name, pod.container)
        current = self._read(*where, previous=False) if is_last else None
        if current:
            return current
        before = self._read(*where, previous=True)
        return current if before is None else before

    def forget(self, key: Key) -> None:
        self._tails.pop(key, None)
