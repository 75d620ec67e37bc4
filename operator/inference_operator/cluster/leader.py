"""Leader election by a Lease, with client-go's algorithm
(https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go).

It uses no clock of another machine: a holder counts as dead when its Lease has not changed for the
whole duration by our own clock. The election in the `kubernetes` package uses the wall clock and
does not release the Lease when it stops.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from inference_operator.cluster.api.client import Cluster, ClusterError
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Manifest

DURATION = 15
"""Seconds without a renewal after which another operator may take the Lease."""
RENEW_WITHIN = 10.0
"""Seconds without a renewal after which the holder stops, before another may take over."""
RETRY = 2.0
NAME = "inference-operator"
_CONFLICT = 409

log = logging.getLogger(__name__)


class Leader:
    """
    Args:
        namespace: namespace of the Lease.
        identity: unique name of this process.
        lost: called on a thread of its own when the Lease could not be renewed. Nothing may be
            written after that: the process should end at once.
        deployment: the operator's Deployment in the same namespace; it owns the Lease.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        identity: str,
        lost: Callable[[], None] = lambda: os._exit(1),
        deployment: str = "",
    ) -> None:
        self._cluster = cluster.within(RENEW_WITHIN / 2)
        self._namespace = namespace
        self._identity = identity
        self._lost = lost
        self._deployment = deployment
        self._held: Manifest | None = None
        self._seen: tuple[str, float] = ("", 0.0)
        """Resource version of another holder's Lease, and since when it has not changed."""
        self._renewed = 0.0
        """When the last granted renewal was requested."""
        self._closing = threading.Event()
        self._holding = threading.Thread(target=self._hold, name="leader", daemon=True)
        self._guarding = threading.Thread(target=self._guard, name="leader-guard", daemon=True)

    def acquire(self) -> None:
        """Wait until this process holds the Lease, and renew it from then on."""
        is_told = False
        while not self._try():
            if not is_told:
                log.info("another operator is the leader; waiting for its Lease")
                is_told = True
            time.sleep(RETRY)
        log.info("acting, as %s", self._identity)
        self._holding.start()
        self._guarding.start()

    def release(self) -> None:
        """Release the Lease for the next operator. Call it only after the last write."""
        self._closing.set()
        self._holding.join(RENEW_WITHIN)
        if self._held is not None and not self._holding.is_alive():
            try:
                self._replace(self._held, "", 1)
            except ClusterError as error:
                log.warning("cannot release the Lease, which will expire: %s", error)

    def _hold(self) -> None:
        while not self._closing.wait(RETRY):
            if not self._try() and self._held is None:
                self._lose()

    def _guard(self) -> None:
        """A watchdog for `_hold`: timeouts do not end a request whose response trickles in."""
        while (left := self._renewed + RENEW_WITHIN - time.monotonic()) > 0:
            if self._closing.wait(left):
                return
        self._lose()

    def _lose(self) -> None:
        log.error("the Lease is lost: another operator may act")
        self._closing.set()
        self._lost()

    def _try(self) -> bool:
        """Whether this process holds the Lease now; after an unanswered request it may hold it."""
        asked = time.monotonic()
        try:
            is_ours = self._take()
        except ClusterError as error:
            if error.status == _CONFLICT and self._held is not None:
                self._held = None  # The Lease was changed or deleted: read it again.
                return self._try()
            log.log(logging.DEBUG if error.status == _CONFLICT else logging.WARNING, "%s", error)
            return False
        if is_ours:
            self._renewed = asked
        return is_ours

    def _take(self) -> bool:
        lease = self._held or self._cluster.get(Kind.LEASE, self._namespace, NAME)
        if lease is None:
            metadata = {"name": NAME, "ownerReferences": self._owners()}
            body = {"metadata": metadata, "spec": self._spec({}, self._identity, DURATION)}
            self._held = self._cluster.create(Kind.LEASE, self._namespace, body)
            return True
        if self._is_held_by_another(lease):
            return False
        self._held = self._replace(lease, self._identity, DURATION)
        return True

    def _owners(self) -> list[Manifest]:
        """The Deployment, not the pod: a pod can be force-deleted while its process still runs."""
        name = self._deployment
        there = self._cluster.get(Kind.DEPLOYMENT, self._namespace, name) if name else None
        if there is None:
            return []
        uid = there["metadata"]["uid"]
        return [{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}]

    def _is_held_by_another(self, lease: Manifest) -> bool:
        spec, now = lease["spec"], time.monotonic()
        if spec.get("holderIdentity", "") in ("", self._identity):
            return False
        version, since = self._seen
        if version != lease["metadata"]["resourceVersion"]:
            self._seen = lease["metadata"]["resourceVersion"], now
            return True
        seconds: float = spec.get("leaseDurationSeconds", DURATION)
        return now - since < seconds

    def _replace(self, lease: Manifest, holder: str, seconds: int) -> Manifest:
        changed = {**lease, "spec": self._spec(lease["spec"], holder, seconds)}
        return self._cluster.replace(Kind.LEASE, self._namespace, changed)

    def _spec(self, before: Manifest, holder: str, seconds: int) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_new = before.get("holderIdentity") != holder
        transitions = before.get("leaseTransitions", 0)
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "acquireTime": now if is_new else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": transitions + 1 if is_new and before and holder else transitions,
        }
