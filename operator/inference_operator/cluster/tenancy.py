"""Which release works on a namespace: two would undo each other's work, for ever.

A Lease in the namespace names the one. It is renewed now and then, so that one that was removed
leaves its namespaces to another after a while, or at once if somebody deletes the Lease.
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
"""Seconds after which it is asked again whose a namespace is, if a model there is looked at:
somebody may have deleted a Lease whose holder still works."""
_CONFLICT = 409

log = logging.getLogger(__name__)


class Tenancy:
    """Thread-safe.

    Args:
        identity: of the release: namespace and name of its operator; empty: nobody asks.
    """

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self._cluster, self._identity = cluster, identity
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}
        """Namespace → whose it is, and until when nobody asks again."""

    @property
    def foreign(self) -> dict[str, str]:
        """Namespaces that another release has, and which."""
        with self._lock:
            known = self._known.items()
            return {name: holder for name, (holder, _) in known if holder != self._identity}

    def other(self, namespace: str) -> str:
        """The release that works here, if it is another one; else it is us from now on.

        Raises:
            ClusterError: nobody knows.
        """
        if not self._identity:
            return ""
        with self._lock:
            holder, until = self._known.get(namespace, ("", 0.0))
            if time.monotonic() >= until:
                before, holder = holder, self._take(namespace)
                self._known[namespace] = holder, time.monotonic() + LOOK_AGAIN
                if holder != self._identity and before != holder:
                    log.error(words(namespace, holder))
            return "" if holder == self._identity else holder

    def _take(self, namespace: str) -> str:
        """The holder, after we have tried."""
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
    """Seconds since it was renewed; inf if it does not say when."""
    try:
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    except (KeyError, ValueError):
        return math.inf
    return (datetime.now(UTC) - renewed).total_seconds()


def words(namespace: str, holder: str) -> str:
    """What an administrator reads and does."""
    return (
        f"the release of operator {holder} works on namespace {namespace}, and this one does "
        "nothing there: let each have namespaces of its own (watchNamespaces); if the other is "
        f"gone, kubectl delete lease {NAME} -n {namespace}"
    )
