"""Which release manages a namespace: two releases would keep undoing each other's changes.

A Lease in the namespace names the release and is renewed periodically. After a release is removed,
another may take its namespaces when the Lease expires, or at once if the Lease is deleted.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from datetime import UTC, datetime

from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Manifest

NAME = "inference-server"
DURATION = 900
"""Seconds without a renewal after which another release may take a namespace."""
RENEW_AFTER = DURATION / 3
LOOK_AGAIN = 30.0
"""Seconds after which a reconcile reads the Lease again: it may have been deleted although its
holder still works."""
_CONFLICT = 409

log = logging.getLogger(__name__)


class Tenancy:
    """Thread-safe.

    Args:
        identity: namespace and name of the release's operator; empty: no Leases are used.
    """

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self._cluster, self._identity = cluster, identity
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}
        """Namespace → its release, and until when the answer is cached."""

    @property
    def foreign(self) -> dict[str, str]:
        """Namespaces that another release manages, each with that release."""
        with self._lock:
            known = self._known.items()
            return {name: holder for name, (holder, _) in known if holder != self._identity}

    def other(self, namespace: str) -> str:
        """The other release that manages the namespace; empty if this one does, from now on.

        Raises:
            ClusterError: the Lease could not be read or written.
        """
        if not self._identity:
            return ""
        with self._lock:
            holder, until = self._known.get(namespace, ("", 0.0))
            if time.monotonic() >= until:
                before, holder = holder, self._take(namespace)
                self._known[namespace] = holder, time.monotonic() + LOOK_AGAIN
                if holder != self._identity and before != holder:
                    log.error(message(namespace, holder))
            return "" if holder == self._identity else holder

    def _take(self, namespace: str) -> str:
        """Try to take the Lease. Returns its holder."""
        lease = self._cluster.get(Kind.LEASE, namespace, NAME)
        try:
            if lease is None:
                body = {"metadata": {"name": NAME}, "spec": self._spec()}
                self._cluster.create(Kind.LEASE, namespace, body)
            elif self._is_another_s(lease):
                return str(lease["spec"]["holderIdentity"])
            elif lease["spec"].get("holderIdentity") != self._identity or _age(lease) > RENEW_AFTER:
                renewed = {**lease, "spec": {**lease["spec"], **self._spec()}}
                self._cluster.replace(Kind.LEASE, namespace, renewed)
        except ClusterError as error:
            if error.status != _CONFLICT:
                raise
            found = self._cluster.get(Kind.LEASE, namespace, NAME) or {"spec": {}}
            return str(found["spec"].get("holderIdentity", ""))
        return self._identity

    def _is_another_s(self, lease: Manifest) -> bool:
        spec = lease["spec"]
        if spec.get("holderIdentity", "") in ("", self._identity):
            return False
        seconds: int = spec.get("leaseDurationSeconds", DURATION)
        return _age(lease) < seconds

    def _spec(self) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION,
            "renewTime": now,
        }


def _age(lease: Manifest) -> float:
    """Seconds since the last renewal; inf if the Lease has no time."""
    try:
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    except (KeyError, ValueError):
        return math.inf
    return (datetime.now(UTC) - renewed).total_seconds()


def message(namespace: str, holder: str) -> str:
    """The message for an administrator, with what to do."""
    return (
        f"the release of operator {holder} works on namespace {namespace}, and this one does "
        "nothing there: let each have namespaces of its own (watchNamespaces); if the other is "
        f"gone, kubectl delete lease {NAME} -n {namespace}"
    )
