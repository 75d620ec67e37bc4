"""The operator of a cluster: `python -m inference_operator` runs until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import kopf
import kubernetes.config
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from inference_contract import field_errors, files, logs, statefile
from inference_contract.probes import ProbeReply, ProbeServer
from inference_contract.stopping import Stopping
from inference_operator.cluster import tenancy
from inference_operator.cluster.api.client import connect
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.cache.lister import Lister
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.handlers import kopf_settings, register
from inference_operator.cluster.leader import Leader
from inference_operator.cluster.metrics import ClusterMetrics
from inference_operator.cluster.reconciler import Reconciler
from inference_operator.cluster.redis_access import RedisAccess
from inference_operator.cluster.scaling_loop import ScalingLoop
from inference_operator.cluster.secret_checks import SecretChecks
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.cluster.work_queue import WorkQueue
from inference_operator.redis.budget import RedisBudget
from inference_operator.redis.connection import RedisConnection
from inference_operator.redis.users import RedisUsers
from inference_operator.scaling.load import Loads
from inference_operator.scaling.scaler import Scaler

LIVE_WITHIN = 60.0
"""Seconds without progress, while there is work, after which the process counts as stuck."""

_END_SECONDS = 15.0
"""Limit from the end of the watches, which takes some seconds, to the exit, even if servers do not
answer. Kubernetes kills the process 30 seconds after the signal."""

_CONNECTIONS = 16
"""Limit of Redis connections for one pod, which needs three. Terminating pods count again."""

_IDENTITY: Any = "inference-operator"
"""Without it kopf looks up the user's name, and a pod's user has none."""

log = logging.getLogger(__name__)


class ClusterOperator:
    """Connects the parts of the operator.

    Args:
        stops: called when the operator begins to stop.
    """

    def __init__(
        self, settings: ClusterSettings, stops: Callable[[], object] = lambda: None
    ) -> None:
        self._settings = settings
        self._stops = stops
        self.metrics = ClusterMetrics()
        self._mirror = Mirror(settings.namespaces)
        self._is_working = False
        cluster = connect(settings.operator_workers + 2)
        self.leader = Leader(
            cluster,
            settings.leader_namespace,
            _identity(),
            deployment=settings.leader_deployment,
        )
        redis = RedisConnection(settings.redis_url)
        users = RedisUsers(redis)
        self.scaling = ScalingLoop(
            Scaler(Loads(redis)), lambda key: self.queue.put(key), settings.tick_seconds
        )
        self._access = RedisAccess(cluster, self._mirror, users, settings)
        self._watch = RedisBudget(
            RedisConnection(settings.redis_url),
            users,
            budget=settings.runner_redis_bytes,
            allowed=lambda key: _CONNECTIONS * (1 + self._mirror.pods_of(key)),
            suspended=self._put_key,
        )
        self._reconciler = Reconciler(
            cluster, self._mirror, self.scaling, self._access, settings, self.metrics
        )
        self.queue = WorkQueue(
            self._reconciler,
            workers=settings.operator_workers,
            resync=settings.resync_seconds,
            accepts=self._is_known,
        )
        self._secret_checks = SecretChecks(cluster, self._mirror, self._child_changed)
        self._lister = Lister(
            cluster,
            self._mirror,
            settings.namespaces,
            settings.resync_seconds,
            wake=self.queue.put,
            listed=self._work,
            refused=self.metrics.refuse,
        )
        self.metrics.queue.set_function(lambda: len(self.queue))

    def run(self) -> None:
        """Run until SIGTERM or SIGINT. The runners keep running."""
        probes = ProbeServer(
            self._settings.metrics_host, self._settings.metrics_port, self._routes()
        )
        if self._settings.state_file:
            statefile.write(self._settings.state_file, {"pid": os.getpid(), "port": probes.port})
        if self._settings.leader_namespace:
            self.leader.acquire()
        self._lister.start()
        namespaces = self._settings.namespaces
        log.info("watching %s, port %d", ", ".join(namespaces) or "all namespaces", probes.port)
        kopf.run(
            registry=register(self._mirror, self.queue.put, self._child_changed),
            settings=kopf_settings(),
            standalone=True,
            identity=_IDENTITY,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        self._stops()
        probes.close()
        is_over = self._close()
        if self._settings.leader_namespace and is_over:
            self.leader.release()
        log.info("stopped; the runners keep running")

    def _close(self) -> bool:
        """Whether all writers have certainly ended."""
        self._lister.close()
        if not self._is_working:
            return False
        self.scaling.close()
        self._watch.close()
        self._secret_checks.close()
        return self.queue.close()

    def _work(self) -> None:
        """Start the workers after the first list: missing objects would be created again."""
        if not self._is_working:
            self.queue.start()
            self.scaling.start()
            self._secret_checks.start()
            if self._settings.runner_redis_bytes and not self._settings.runner_redis_url:
                self._watch.start()
            self._is_working = True
        self._access.remove_orphans(restore=True)

    def _is_known(self, key: Key) -> bool:
        """Whether its namespace is listed: the list queues its models later."""
        return self._mirror.is_known(key[0])

    def _child_changed(self, key: Key) -> None:
        self._reconciler.child_changed(key)
        self.queue.put(key)

    def _put_key(self, key: str) -> None:
        """Queue the models with this key in Redis."""
        for found in self._mirror.keys_of(key):
            self.queue.put(found)

    def _routes(self) -> dict[str, Callable[[], ProbeReply]]:
        def live() -> ProbeReply:
            silence = max(self.queue.silence(), self.scaling.silence())
            status = 200 if silence < LIVE_WITHIN else 503
            return ProbeReply(status, f"no progress for {silence:.1f} s\n".encode())

        def ready() -> ProbeReply:
            said = [
                f"namespace {name} cannot be listed, and nothing is done there: {why}"
                for name, why in sorted(self._lister.problems.items())
            ]
            if self._is_working:
                said += [tenancy.message(*at) for at in sorted(self._reconciler.foreign.items())]
            if said:
                return ProbeReply(200, "".join(f"{line}\n" for line in said).encode())
            return live()

        def metrics() -> ProbeReply:
            return ProbeReply(200, self.metrics.exposition(), CONTENT_TYPE_LATEST)

        return {"/health/live": live, "/health/ready": ready, "/metrics": metrics}


def _identity() -> str:
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


def main() -> int:
    try:
        settings = ClusterSettings()
    except ValidationError as error:
        sys.stderr.write(field_errors.of_settings(error, ClusterSettings) + "\n")
        return 2
    logs.configure("operator", settings.log_level)
    files.raise_limit()
    # kopf parses objects with json, which needs recursion; API servers accept 10,000 levels.
    sys.setrecursionlimit(40_000)
    # Until kopf installs its handlers: signals have no default action for pid 1 of a container.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        ClusterOperator(settings, Stopping(_END_SECONDS).begin).run()
    except (kubernetes.config.ConfigException, OSError) as error:
        log.error("cannot start: %s (port %d)", error, settings.metrics_port)
        return 1
    return 0
