"""An RQ worker with its own loop: it uses RQ's names, keys and registries.

It imports no functions by name and runs no callbacks: a job's only argument goes to the loaded
model."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.utils import now

from inference_contract import queues
from inference_contract.pods import RunnerExit
from inference_runner.batch_loop import BatchLoop
from inference_runner.engines.base import BaseInferenceModel, StepEngine
from inference_runner.metrics import RunnerMetrics
from inference_runner.model_code.capture import Capture
from inference_runner.model_code.interrupt import Interrupt
from inference_runner.redis.claim import ClaimKeys, Command
from inference_runner.redis.emitter import Emitter
from inference_runner.redis.heartbeat import Heartbeat
from inference_runner.redis.session import SOCKET_TIMEOUT, RedisSession, connect, pipe
from inference_runner.run_context import RunContext
from inference_runner.settings import RunnerSettings
from inference_runner.step_loop import StepLoop

log = logging.getLogger(__name__)

WORKER_TTL = 60


def perform(*_: object) -> NoReturn:
    """The function named in every job. Jobs are run by `BatchWorker`, in batches."""
    raise RuntimeError("inference_runner jobs are run by inference_runner.worker.BatchWorker only")


class BatchWorker(SimpleWorker):
    """Consumes one model's queue until it is told to stop.

    Args:
        last_words: told why, before the process ends because the model's code does not.
        interrupt: stops the model's code, if installed.
        capture: turns output into the predictions' logs, if installed.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        model: BaseInferenceModel,
        metrics: RunnerMetrics | None = None,
        last_words: Callable[[RunnerExit, str], None] = lambda *_: None,
        interrupt: Interrupt | None = None,
        capture: Capture | None = None,
    ) -> None:
        client = connect(settings.redis_url)
        # RQ's own preparation reads from Redis, which may not answer now.
        super().__init__(
            [settings.key],
            name=settings.name,
            connection=client,
            worker_ttl=WORKER_TTL,
            serializer=JSONSerializer,
            prepare_for_work=False,
        )
        self.hostname, self.pid = socket.gethostname(), os.getpid()
        self.birth_date = self.last_heartbeat = now()
        self._keys = keys = ClaimKeys(settings.key, settings.name)
        emitter, lease = Emitter(keys), settings.lease_seconds
        self.metrics = metrics or RunnerMetrics()
        self.session = RedisSession(client, keys, emitter, lease, self.stopping)
        self.metrics.in_flight.set_function(lambda: len(self.session.mine))
        self._pulse_client = connect(settings.redis_url)
        self._heartbeat = Heartbeat(
            self._pulse_client,
            keys,
            self.session,
            emitter,
            lease,
            self._registration,
            look=lambda: self.context.look(),
        )
        self._redis_url, self._last_words = settings.redis_url, last_words
        self.context = RunContext(
            self.session,
            emitter,
            self.metrics,
            predict_seconds=settings.spec.timeouts.predict_seconds,
            is_foreign=model.is_foreign,
            notice=self._heartbeat.notice,
            stopping=self.stopping,
            replace=self._replace,
            interrupt=interrupt or Interrupt(),
            capture=capture or Capture(),
        )
        self._loop = _loop(model, self.context, settings)

    @property
    def connection_timeout(self) -> int:
        """RQ raises the client's socket timeout to this."""
        return SOCKET_TIMEOUT

    def stopping(self) -> bool:
        return bool(self._stop_requested)

    def last_progress(self) -> float:
        """Time of the loop's last progress (monotonic); now, while the model's code has time
        left."""
        return time.monotonic() if self.context.is_working else self.session.progress

    def request_stop(self, *_: Any) -> None:
        """Stop claiming; `work` returns when all that is claimed is done. Safe in a handler."""
        self._stop_requested = True

    def forget(self) -> None:
        """In a forked child: close the connections without reading. Takes no lock, as its holder
        may be a thread of the parent."""
        connections = [self.session.connection]
        for client in (self.connection, self._pulse_client):
            pool: Any = client.connection_pool
            connections += (*pool._available_connections, *pool._in_use_connections)
        for connection in connections:
            if connection._sock is not None:
                connection._sock.close()

    def _replace(self, code: RunnerExit, message: str) -> None:
        """On a watchdog thread, while the main thread hangs: send all events and end the
        process."""
        try:
            self.session.send_through(connect(self._redis_url), patience=1.0)
            self._last_words(code, message)
        except Exception:
            log.exception("the last state could not be reported")
        finally:
            os._exit(code)

    def work(self, *_: Any, **__: Any) -> bool:
        """Run until stopped, and all claimed jobs are done and their events sent."""
        self.register_birth()
        self._heartbeat.start()
        try:
            self._loop.run()
        finally:
            self._heartbeat.stop()
            self.register_death()
        return True

    def register_birth(self) -> None:
        """Unlike RQ's, replaces a killed worker of the same name; the heartbeat repeats it."""
        try:
            self._heartbeat.beat()
        except redis.RedisError as error:
            log.warning("cannot register yet: Redis is away", extra={"error": str(error)})

    def register_death(self) -> None:
        """As RQ's, with the commands that a runner may use."""
        commands: list[Command] = [
            ("SREM", f"{self.redis_workers_keys}:{self._keys.model}", self.key),
            ("HSET", self.key, "death", queues.time_now()),
            ("EXPIRE", self.key, 60),
            ("DEL", self._keys.executions),
        ]
        try:
            pipe(self.connection, commands)
        except redis.RedisError as error:
            log.warning("cannot unregister: Redis is away", extra={"error": str(error)})

    def _registration(self) -> list[Command]:
        """RQ's `serialize`, `worker_registration.register` and `heartbeat` in one, which also
        restores the worker after a loss of Redis' data. Runners have no right to RQ's lists of all
        workers and queues, which a hostile one could fill."""
        known = {k: v or "" for k, v in self.serialize().items()}
        known |= {
            "last_heartbeat": queues.time_now(),
            "process": self._keys.process,
            "successful_job_count": self.context.counts[True],
            "failed_job_count": self.context.counts[False],
        }
        fields = [part for pair in known.items() for part in pair]
        return [
            ("HSET", self.key, *fields),
            ("HDEL", self.key, "death"),
            ("HSETNX", self.key, "state", "idle"),
            ("EXPIRE", self.key, WORKER_TTL + 60),
            ("EXPIRE", self._keys.executions, WORKER_TTL + 60),
            ("SADD", f"{self.redis_workers_keys}:{self._keys.model}", self.key),
        ]


def _loop(
    model: BaseInferenceModel, context: RunContext, settings: RunnerSettings
) -> BatchLoop | StepLoop:
    if isinstance(model, StepEngine):
        return StepLoop(model, context, settings.spec.timeouts.predict_seconds)
    return BatchLoop(model, context, settings.spec.batching.max_batch_size)
