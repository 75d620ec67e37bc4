"""Polls the Secrets of models that have pods, one after the other. They are not watched: the right
to watch Secrets would include reading all of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.children import Parent

ROUND_SECONDS = 5.0
"""Seconds for one round over all Secrets, if they are few; each check is a request."""
SHORTEST_PAUSE = 0.05

log = logging.getLogger(__name__)


class SecretChecks:
    """A thread.

    Args:
        child_changed: called with a model whose Secret was deleted or changed.
    """

    def __init__(
        self, cluster: Cluster, mirror: Mirror, child_changed: Callable[[Key], None]
    ) -> None:
        self._cluster, self._mirror, self._child_changed = cluster, mirror, child_changed
        self._versions: dict[Key, str] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="secrets", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def check(self, key: Key) -> None:
        """Raises ClusterError."""
        parent = Parent(*key, uid="")
        there = self._cluster.get(Kind.SECRET, parent.namespace, parent.child)
        version = there["metadata"]["resourceVersion"] if there else ""
        before = self._versions.get(key, version)
        self._versions[key] = version
        if version != before or not version:
            self._child_changed(key)

    def _run(self) -> None:
        while not self._closing.wait(SHORTEST_PAUSE):
            keys = [key for key in sorted(self._mirror.models()) if self._mirror.pods(key)]
            self._versions = {key: v for key, v in self._versions.items() if key in {*keys}}
            pause = max(SHORTEST_PAUSE, ROUND_SECONDS / max(1, len(keys)))
            if not keys:
                self._closing.wait(ROUND_SECONDS)
            for key in keys:
                if self._closing.wait(pause):
                    return
                try:
                    self.check(key)
                except ClusterError as error:
                    log.debug("the Secret of %s: %s", "/".join(key), error)
