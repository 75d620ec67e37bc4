"""The last words of runners that failed, each read once."""

from __future__ import annotations

from dataclasses import replace

from inference_contract.inferencemodel import Reason
from inference_operator import runner_pods
from inference_operator.cluster import Cluster
from inference_operator.runner_pods import Trouble
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
            previous = pod.end is not None and not pod.end.is_last
            tail = self._cluster.log_tail(key[0], pod.name, pod.container, previous=previous)
            self._tails[key] = start, tail
        words = runner_pods.last_words(tail) if trouble.reason is Reason.LOAD_FAILED else ""
        message = f"{words}; {trouble.message}" if words else trouble.message
        return replace(trouble, message=message, log_tail=tail)

    def forget(self, key: Key) -> None:
        self._tails.pop(key, None)
