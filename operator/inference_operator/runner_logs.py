"""The last words of runners that failed, each read once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from inference_contract.inferencemodel import Reason
from inference_operator import runner_pods
from inference_operator.cluster import Cluster
from inference_operator.runner_pods import RunnerPod, Trouble
from inference_operator.work_queue import Key


class RunnerLogs:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tails: dict[Key, tuple[tuple[str, str, int], list[str]]] = {}
        """Pod, container and its restarts, and the log lines before the last of them."""

    def explain(self, key: Key, trouble: Trouble) -> Trouble:
        """With what the runner, or its download, said before it failed."""
        if not trouble.has_log:
            return trouble
        pod = trouble.pod
        start = (pod.uid, pod.container, pod.restarts)
        read, tail = self._tails.get(key, (None, []))
        if read != start or not tail:
            tail = self._read(key[0], pod)
            self._tails[key] = start, tail
        words = runner_pods.last_words(tail) if trouble.reason is Reason.LOAD_FAILED else ""
        message = f"{words}; {trouble.message}" if words else trouble.message
        return replace(trouble, message=message, log_tail=tail)

    def _read(self, namespace: str, pod: RunnerPod) -> list[str]:
        """Of the run that ended. By now the next may have begun, of which we have not heard."""
        read = partial(self._cluster.log_tail, namespace, pod.name, pod.container)
        is_last = pod.end is not None and pod.end.is_last
        return (read(previous=False) if is_last else []) or read(previous=True)

    def forget(self, key: Key) -> None:
        self._tails.pop(key, None)
