"""`python -m inference_gateway.dispatch`: recorder, relay, sweeper and webhook delivery.

Exit codes: 2 misconfigured, 1 port taken.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import redis

from inference_contract import files, logs, statefile
from inference_contract.probes import ProbeReply, ProbeServer
from inference_gateway.background import memory, progress
from inference_gateway.dispatch import metrics
from inference_gateway.dispatch.feeding.feeder import Feeder
from inference_gateway.dispatch.loops import Loop
from inference_gateway.dispatch.recording.apply_changes import prepare
from inference_gateway.dispatch.recording.recorder import Recorder
from inference_gateway.dispatch.recovery.outage_grace import OutageGrace
from inference_gateway.dispatch.recovery.relay import Relay
from inference_gateway.dispatch.recovery.sweeper import Sweeper
from inference_gateway.dispatch.usage import Usage
from inference_gateway.lifecycle.wire import show
from inference_gateway.postgres import db
from inference_gateway.redis.clients import blocking
from inference_gateway.settings import GatewaySettings
from inference_gateway.startup import ConfigurationError, read_settings
from inference_gateway.webhooks.claims import MOST, Claims
from inference_gateway.webhooks.delivery import Delivery
from inference_gateway.webhooks.reading import ContentReader
from inference_gateway.webhooks.sending import Sender

_log = logging.getLogger("inference_gateway.dispatch")
_PORT_TAKEN = 1
_MISCONFIGURED = 2
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_STOP_SECONDS = 1.5
_TELL_EVERY = 1.0
_WRITERS = 4
"""Database connections: one each for recorder, relay, sweeper and feeder."""
_WEBHOOK_CONNECTIONS = 4
"""Database connections of the webhook threads, used to store the outcome of an attempt."""


def main() -> int:
    try:
        settings = read_settings()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return _MISCONFIGURED
    logs.configure("dispatch", settings.log_level)
    files.raise_limit()
    memory.return_freed_memory()
    # Blocked in every thread and awaited with sigwait: a handler runs in the main thread, which a
    # signal delivered to another thread does not wake.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    loops = _loops(settings)
    try:
        probes = ProbeServer(settings.metrics_host, settings.metrics_port, _routes(loops))
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        problem = f"cannot be listened on ({error.strerror}): set METRICS_HOST and METRICS_PORT"
        sys.stderr.write(f"{where} {problem}\n")
        return _PORT_TAKEN
    for loop in loops:
        loop.start()
    if settings.state_file is not None:
        statefile.write(settings.state_file, {"pid": os.getpid(), "port": probes.port})
    _log.info("dispatch runs, probes on port %d", probes.port)
    signal.sigwait(_STOP_SIGNALS)
    _stop(loops)
    return 0


def _loops(settings: GatewaySettings) -> list[Loop]:
    client = _redis(settings)
    engine = prepare(db.engine(settings, pool_size=_WRITERS))
    wake = threading.Event()
    recorder = Recorder(
        engine,
        client,
        lease_seconds=settings.lease_seconds,
        consumer=socket.gethostname(),
        told=wake,
    )
    grace = OutageGrace(_redis(settings), settings.lease_seconds)
    relay = Relay(
        engine,
        client,
        sweep_seconds=settings.sweep_seconds,
        max_attempts=settings.max_attempts,
        grace=grace,
    )
    sweeper = Sweeper(
        engine,
        client,
        sweep_seconds=settings.sweep_seconds,
        max_attempts=settings.max_attempts,
        grace=grace,
    )
    delivery = _webhooks(settings, wake)
    usage = Usage(db.engine(settings, pool_size=1))
    feeder = Feeder(engine, client, budget=settings.queued_bytes_per_account)
    loops = [
        Loop("recorder", recorder.step),
        Loop("grace", grace.step),
        Loop("relay", relay.step),
        Loop("sweeper", sweeper.step),
        Loop("feeder", feeder.step),
        Loop("webhooks", delivery.step, wake),
        Loop("usage", usage.step),
    ]
    for loop in loops:
        metrics.STALLED.labels(loop.name).set_function(partial(getattr, loop, "silence"))
    return [*loops, Loop("progress", partial(_tell, client, loops))]


def _webhooks(settings: GatewaySettings, wake: threading.Event) -> Delivery:
    outbox = db.engine(settings, pool_size=_WEBHOOK_CONNECTIONS)
    return Delivery(
        Claims(outbox, hold_seconds=settings.webhook_timeout_seconds),
        ContentReader(outbox),
        Sender(
            timeout_seconds=settings.webhook_timeout_seconds,
            allow_loopback=settings.webhook_allow_loopback,
        ),
        lambda row: show(row, (settings.public_url or row["base_url"] or "").rstrip("/")),
        threads=ThreadPoolExecutor(MOST, thread_name_prefix="webhook"),
        wake=wake,
    )


def _tell(client: redis.Redis, loops: Sequence[Loop]) -> float:
    progress.tell(client, {loop.name: loop.silence for loop in loops})
    return _TELL_EVERY


def _redis(settings: GatewaySettings) -> redis.Redis:
    options: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5}
    options |= settings.redis_credentials
    return blocking(settings.redis_dsn, **options)


def _routes(loops: Sequence[Loop]) -> dict[str, Callable[[], ProbeReply]]:
    def live() -> ProbeReply:
        return _health([loop.name for loop in loops if not loop.is_alive])

    def ready() -> ProbeReply:
        return _health([loop.name for loop in loops if not loop.works])

    return {
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": lambda: ProbeReply(200, metrics.render(), metrics.CONTENT_TYPE),
    }


def _health(failing: Sequence[str]) -> ProbeReply:
    if failing:
        return ProbeReply(503, f"failing: {', '.join(failing)}\n".encode())
    return ProbeReply(200, b"ok\n")


def _stop(loops: Sequence[Loop]) -> None:
    """Let each loop end its round. The next process repeats what is interrupted."""
    for loop in loops:
        loop.stop()
    end = time.monotonic() + _STOP_SECONDS
    for loop in loops:
        loop.join(end - time.monotonic())


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Not sys.exit, which waits for running deliveries; they are sent again with the same id.
    os._exit(code)
