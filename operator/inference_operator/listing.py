"""Lists what the mirror holds: at the start, and again now and then, whatever the watches said."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from inference_contract.pods import LABEL_MODEL
from inference_operator.cluster import Cluster, ClusterError
from inference_operator.kinds import Kind
from inference_operator.manifests.child import Manifest
from inference_operator.mirror import Mirror
from inference_operator.work_queue import Key

_RETRY_SECONDS = 2.0
_LABELS = {Kind.MODEL: "", Kind.DEPLOYMENT: LABEL_MODEL, Kind.POD: LABEL_MODEL}
"""What is listed in namespaces, and by which label."""

log = logging.getLogger(__name__)


class Lister:
    """A thread.

    Args:
        namespaces: those with models; none: all.
        seconds: pause between two lists.
        wake: is called with each model that a list has news of.
        listed: is called after each.
    """

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        namespaces: Sequence[str],
        seconds: float,
        wake: Callable[[Key], None],
        listed: Callable[[], None],
    ) -> None:
        self._cluster, self._mirror = cluster, mirror
        self._scopes = namespaces or [""]
        self._seconds = seconds
        self._wake, self._listed = wake, listed
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="list", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            start = time.monotonic()
            try:
                news = self._list()
            except ClusterError as error:
                log.warning("cannot list: %s; again in %.0f s", error, _RETRY_SECONDS)
                pause = _RETRY_SECONDS
                continue
            except Exception:  # the thread must live: nothing else lists
                log.exception("cannot list; again in %.0f s", _RETRY_SECONDS)
                pause = _RETRY_SECONDS
                continue
            pause = self._seconds
            log.debug("listed in %.1f s", time.monotonic() - start)
            for key in news:
                self._wake(key)
            self._listed()

    def _list(self) -> set[Key]:
        news = self._mirror.replace(Kind.NAMESPACE, "", self._cluster.pages(Kind.NAMESPACE))
        for scope in self._scopes:
            for kind, labels in _LABELS.items():
                pages = self._cluster.pages(kind, scope, labels)
                news |= self._mirror.replace(kind, scope, pages)
            for policies, _ in self._cluster.pages(Kind.NETWORK_POLICY, scope, LABEL_MODEL):
                news |= _models(policies) - self._mirror.models()  # Those left behind.
        return news


def _models(children: Iterable[Manifest]) -> set[Key]:
    metadata = (child["metadata"] for child in children)
    return {(found["namespace"], found["labels"][LABEL_MODEL]) for found in metadata}
