"""Lists the mirror's objects: at the start, and periodically, independently of the watches.

Each namespace is listed separately, so that one that the API server refuses blocks no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from inference_contract import backoff
from inference_contract.pods import LABEL_MODEL
from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.cache.mirror import LISTED, Mirror

_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 30.0
"""Seconds, for a namespace whose list keeps failing."""

log = logging.getLogger(__name__)


class Lister:
    """A thread.

    Args:
        namespaces: namespaces with models; empty: all.
        seconds: pause between two lists.
        wake: called with each model for which a list has a change.
        listed: called after each round that listed a namespace.
        refused: called with the namespaces that cannot be listed.
    """

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        namespaces: Sequence[str],
        seconds: float,
        wake: Callable[[Key], None],
        listed: Callable[[], None],
        refused: Callable[[Collection[str]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._mirror = cluster, mirror
        self._seconds = seconds
        self._wake, self._listed, self._refused = wake, listed, refused
        self._clock = clock
        self._due = dict.fromkeys(namespaces or [""], 0.0)
        """Namespace → when it is listed again, by the clock."""
        self._failures: dict[str, int] = {}
        """Namespace whose last list failed → failures in a row."""
        self._problems: dict[str, str] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="list", daemon=True)

    @property
    def problems(self) -> dict[str, str]:
        """Namespaces that cannot be listed, and why."""
        return dict(self._problems)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            try:
                self.list_due()
            except ClusterError as error:
                log.warning("cannot list: %s; again in %.0f s", error, _RETRY_SECONDS)
                pause = _RETRY_SECONDS
            except Exception:  # the thread must go on: nothing else lists
                log.exception("cannot list; again in %.0f s", _RETRY_SECONDS)
                pause = _RETRY_SECONDS
            else:
                pause = max(min(self._due.values()) - self._clock(), 0.0)

    def list_due(self) -> None:
        """List all due namespaces. Raises ClusterError if the API server does not answer."""
        start = self._clock()
        news = self._mirror.replace(Kind.NAMESPACE, "", self._cluster.pages(Kind.NAMESPACE))
        is_listed = False
        for scope in [scope for scope, due in self._due.items() if due <= start]:
            is_first = not self._mirror.is_known(scope)
            try:
                news |= self._list(scope)
            except Exception as error:  # the other namespaces must still be listed
                if isinstance(error, ClusterError) and not error.status:
                    raise
                self._fails(scope, error)
                continue
            if is_first:  # earlier watch events were not queued
                news |= {key for key in self._mirror.models() if scope in ("", key[0])}
            self._works(scope)
            is_listed = True
        self._refused(self._problems.keys())
        for key in news:
            self._wake(key)
        if is_listed:
            log.debug("listed in %.1f s", self._clock() - start)
            self._listed()

    def _list(self, scope: str) -> set[Key]:
        news: set[Key] = set()
        for kind, labels in LISTED.items():
            pages = self._cluster.pages(kind, scope, labels)
            news |= self._mirror.replace(kind, scope, pages)
        for policies, _ in self._cluster.pages(Kind.NETWORK_POLICY, scope, LABEL_MODEL):
            news |= _models(policies) - self._mirror.models()  # Policies without a model.
        return news

    def _works(self, scope: str) -> None:
        self._due[scope] = self._clock() + self._seconds
        self._failures.pop(scope, None)
        if self._problems.pop(scope, None) is not None:
            log.info("%s can be listed again", _name(scope))

    def _fails(self, scope: str, error: Exception) -> None:
        """Record a failed list. Only the first of a series is logged; the metric shows all."""
        self._failures[scope] = failures = self._failures.get(scope, 0) + 1
        pause = backoff.pause(failures, _RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
        self._due[scope] = self._clock() + pause
        if str(error) != self._problems.get(scope):
            is_odd = not isinstance(error, ClusterError)
            log.warning("%s cannot be listed: %s", _name(scope), error, exc_info=is_odd)
        self._problems[scope] = str(error)


def _name(scope: str) -> str:
    return f"namespace {scope}" if scope else "the models of all namespaces"


def _models(children: Iterable[Manifest]) -> set[Key]:
    metadata = (child["metadata"] for child in children)
    return {(found["namespace"], found["labels"][LABEL_MODEL]) for found in metadata}
