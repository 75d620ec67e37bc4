"""The operator of one machine: starts runner processes for InferenceModel documents.

`python -m inference_operator.local` runs until SIGTERM or SIGINT and leaves the runners running;
the next operator adopts them. With `--stop-runners` it stops the runners instead, and exits.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from inference_contract import field_errors, logs, statefile
from inference_contract.inferencemodel import InferenceModel
from inference_contract.pods import RunnerPhase
from inference_contract.probes import ProbeReply, ProbeServer
from inference_operator.local.actions import Action, Kill, Refuse, Start, Stop, converge
from inference_operator.local.conditions import View, status
from inference_operator.local.documents import Document, Documents, InvalidDocument
from inference_operator.local.failures import Failures
from inference_operator.local.metrics import LocalMetrics
from inference_operator.local.processes import Processes, stop_all
from inference_operator.local.runners import Exit, Runner
from inference_operator.local.settings import LocalSettings
from inference_operator.local.status_files import StatusFiles
from inference_operator.plan import RunnerPlan, plan
from inference_operator.redis.connection import RedisConnection
from inference_operator.scaling.decide import Decision
from inference_operator.scaling.load import Loads
from inference_operator.scaling.scaler import Scaler

LIVE_WITHIN = 30.0
"""Seconds without a finished tick after which the process counts as stuck."""
_LOCK_PATIENCE = 5.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class LocalOperator:
    """Observes, decides and acts, once a `tick`.

    Args:
        processes: those of this home.
    """

    def __init__(
        self, settings: LocalSettings, redis: RedisConnection, processes: Processes
    ) -> None:
        home = settings.inference_home
        self._settings = settings
        self._documents = Documents(home)
        self._scaler = Scaler(Loads(redis))
        self._processes = processes
        self._statuses = StatusFiles(home)
        self._failures = Failures()
        self._plans: dict[str, tuple[InferenceModel, RunnerPlan]] = {}
        self.metrics = LocalMetrics()
        self.last_tick: float | None = None
        """When the last tick ended, by the monotonic clock."""
        self._processes.adopt()

    def tick(self) -> None:
        now = time.monotonic()
        documents = self._documents.read()
        models = {name: model for name, doc in documents.items() if (model := _in_force(doc))}
        runners = self._observe(now)
        loads = self._scaler.read(models)
        running = Counter(runner.model for runner in runners if runner.stop_by is None)
        decisions = self._scaler.decide(models, loads, running, now)
        plans = self._plan(models, decisions)
        desired = {model_id: plans.get(model_id) for model_id in documents}
        self._failures.prune(desired, runners, now)
        capacity = self._settings.local_max_runners
        actions = converge(desired, runners, self._failures, now, capacity)
        for action in actions:
            self._isolated(_model_of(action), partial(self._act, action, now))
        runners = self._observe(now)
        refused = {action.model for action in actions if isinstance(action, Refuse)}
        for model_id, document in documents.items():
            view = View(
                generation=_generation(document),
                now=now,
                decision=decisions.get(model_id),
                runners=[runner for runner in runners if runner.model == model_id],
                failures=self._failures.of(model_id),
                load=loads.get(model_id),
                is_refused=model_id in refused,
                invalid=document.message if isinstance(document, InvalidDocument) else "",
            )
            self._isolated(model_id, partial(self._report, model_id, view))
        # The status of a deleted model is removed with its last runner.
        self._statuses.keep_only({*documents, *(runner.model for runner in runners)})
        self.metrics.observe(documents, runners)
        self.last_tick = time.monotonic()
        self.metrics.tick_seconds.observe(self.last_tick - now)

    def close(self) -> None:
        """Close the connections. The runners keep running."""
        self._scaler.close()

    def _observe(self, now: float) -> list[Runner]:
        runners, exits = self._processes.observe(now)
        for ended in exits:
            self._note(ended, now)
        return runners

    def _note(self, ended: Exit, now: float) -> None:
        if failure := self._failures.note(ended, now):
            self.metrics.failures.labels(ended.runner.model, failure.reason.value).inc()

    def _plan(
        self, models: Mapping[str, InferenceModel], decisions: Mapping[str, Decision]
    ) -> dict[str, RunnerPlan]:
        """The plan of every model. It is cached: a document is hashed once, not at every tick."""
        known, self._plans = self._plans, {}
        for model_id, model in models.items():
            if model_id in known and known[model_id][0] is model:
                self._plans[model_id] = known[model_id]
            elif planned := self._isolated(model_id, partial(plan, model, self._settings, 0)):
                self._plans[model_id] = (model, planned)
        return {
            model_id: replace(planned, replicas=decisions[model_id].replicas)
            for model_id, (_, planned) in self._plans.items()
        }

    def _isolated(self, model_id: str, step: Callable[[], T]) -> T | None:
        """Run a step for one model. An error in it must not stop the other models."""
        try:
            return step()
        except Exception:
            self.metrics.set_aside.inc()
            log.exception("this model is left as it is", extra={"model": model_id})
            return None

    def _act(self, action: Action, now: float) -> None:
        match action:
            case Start(plan=wanted, slot=slot):
                try:
                    self._processes.start(wanted, slot)
                except (OSError, ValueError) as error:  # ValueError: an argument with a null byte
                    runner = Runner(
                        wanted.model, slot, "", wanted.hash, now, 0, phase=RunnerPhase.FAILED
                    )
                    self._note(Exit(runner, None, f"the runner could not start: {error}"), now)
            case Stop(runner=runner):
                self._processes.stop(runner, now)
            case Kill(runner=runner, reason=reason):
                self._processes.kill(runner, reason)
            case Refuse():
                pass  # The status reports it.

    def _report(self, model_id: str, view: View) -> None:
        before = self._statuses.get(model_id)
        self._statuses.write(model_id, status(view, before, datetime.now(UTC)))


def _model_of(action: Action) -> str:
    match action:
        case Start(plan=wanted):
            return wanted.model
        case Stop(runner=runner) | Kill(runner=runner):
            return runner.model
        case Refuse(model=model):
            return model


def _in_force(document: Document) -> InferenceModel | None:
    """The model to run: while a document is invalid, its last valid content stays in force."""
    return document.last_valid if isinstance(document, InvalidDocument) else document


def _generation(document: Document) -> int:
    model = _in_force(document)
    return model.metadata.generation if model else 0


def run(settings: LocalSettings) -> None:
    """Tick until SIGTERM or SIGINT."""
    stop: SimpleQueue[int] = SimpleQueue()  # Unlike an Event, safe in a signal handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.put(number))
    redis, processes = RedisConnection(settings.redis_url), Processes(settings.inference_home)
    operator = LocalOperator(settings, redis, processes)
    probes = ProbeServer(settings.metrics_host, settings.metrics_port, _routes(operator))
    if settings.state_file:
        statefile.write(settings.state_file, {"pid": os.getpid(), "port": probes.port})
    log.info("watching %s, port %d", settings.inference_home / "models", probes.port)
    while True:
        try:
            operator.tick()
        except Exception:
            log.exception("a tick failed; the next one starts from the state at that time")
        with suppress(Empty):
            stop.get(timeout=settings.local_tick_seconds)
            break
    probes.close()
    operator.close()
    log.info("stopped; the runners keep running")


def _routes(operator: LocalOperator) -> dict[str, Callable[[], ProbeReply]]:
    started = time.monotonic()

    def live() -> ProbeReply:
        age = time.monotonic() - (operator.last_tick or started)
        return ProbeReply(
            200 if age < LIVE_WITHIN else 503, f"last tick {age:.1f} s ago\n".encode()
        )

    def ready() -> ProbeReply:
        if operator.last_tick is None:
            return ProbeReply(503, b"starting\n")
        return live()

    def metrics() -> ProbeReply:
        return ProbeReply(200, operator.metrics.exposition(), CONTENT_TYPE_LATEST)

    return {"/health/live": live, "/health/ready": ready, "/metrics": metrics}


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock: two operators of one home would start every runner twice.

    Raises:
        SystemExit: if another operator holds it.
    """
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "operator.lock").open("w") as lock:
        end = time.monotonic() + _LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise SystemExit(f"another operator works on {home}: stop it first") from None
                time.sleep(0.05)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m inference_operator.local", description=__doc__)
    parser.add_argument(
        "--stop-runners", action="store_true", help="end all runners of this home, and exit"
    )
    parser.add_argument(
        "--grace", type=float, metavar="SECONDS", help="with --stop-runners: in place of "
        "each runner's own drainSeconds"
    )  # fmt: skip
    options = parser.parse_args(argv)
    try:
        settings = LocalSettings()
    except ValidationError as error:
        sys.stderr.write(field_errors.of_settings(error, LocalSettings) + "\n")
        return 2
    logs.configure("operator", settings.log_level)
    with only_one(settings.inference_home):
        if options.stop_runners:
            log.info("%d runners stopped", stop_all(settings.inference_home, options.grace))
            return 0
        try:
            run(settings)
        except OSError as error:
            log.error("cannot start: %s (port %d)", error, settings.metrics_port)
            return 1
    return 0
