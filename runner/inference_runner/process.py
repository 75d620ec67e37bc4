"""The runner's main function: settings, state and probes, engine, worker."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from inference_contract import logs
from inference_contract.pods import RunnerExit, RunnerPhase
from inference_runner import settings as settings_of
from inference_runner.ends import Ends
from inference_runner.engines import registry
from inference_runner.engines.base import BaseInferenceModel, EngineError, EngineOptions
from inference_runner.metrics import RunnerMetrics
from inference_runner.model_code import call
from inference_runner.model_code.capture import Capture
from inference_runner.model_code.interrupt import Interrupt
from inference_runner.model_code.watchdog import Watchdog, every
from inference_runner.settings import RunnerSettings, SettingsError
from inference_runner.sources import locate
from inference_runner.state_reporter import StateReporter
from inference_runner.worker import BatchWorker

log = logging.getLogger("inference_runner")

_LOADING_THRESHOLD = 500_000
"""New objects between two garbage collections; limited, as a model's code may create garbage."""


def main(ends: Ends) -> int:
    """Returns the exit code."""
    try:
        settings = settings_of.read(os.environ)
    except SettingsError as error:
        print(f"inference_runner: {error}", file=sys.stderr)  # noqa: T201 - one line, no log yet
        return RunnerExit.MISCONFIGURED
    logs.configure("runner", settings.log_level, own="inference_runner", descriptor=ends.log)
    faulthandler.enable(ends.log)
    capture = Capture()
    capture.install(ends)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: os._exit(RunnerExit.OK))  # nothing is claimed yet
    metrics = RunnerMetrics()
    try:
        reporter = StateReporter(settings.state_file, settings.host, settings.port, metrics)
    except OSError as error:
        log.error("the probes' port is taken", extra={"port": settings.port, "error": str(error)})
        return RunnerExit.MISCONFIGURED
    reporter.report(RunnerPhase.LOADING)
    time.sleep(ends.pause)
    started = time.monotonic()
    model = _load(settings, reporter)
    if model is None:
        return RunnerExit.LOAD_FAILED
    seconds = time.monotonic() - started
    metrics.load_seconds.set(seconds)
    return _work(settings, model, metrics, reporter, seconds, capture, ends)


def _load(settings: RunnerSettings, reporter: StateReporter) -> BaseInferenceModel | None:
    """The loaded model; None after an error, which the state file has. Ends the process on a
    hang."""
    limit = settings.spec.timeouts.load_seconds

    def too_long() -> None:
        message = f"the model did not load within {limit} s (timeouts.loadSeconds)"
        log.error(message)
        reporter.report(RunnerPhase.FAILED, message)
        os._exit(RunnerExit.LOAD_FAILED)

    log.info("loading", extra={"model": settings.model_id})
    try:
        with Watchdog(too_long).guard(limit), _few_collections():
            model = registry.create(settings.spec.type, _options(settings))
            model.load()
    except (EngineError, locate.SourceError) as error:
        message = str(error)
    except MemoryError:
        message = "MemoryError: not enough memory to load the model"
        log.exception(message)
    except BaseException as error:
        message = call.describe(error)
        log.exception("the model raised while it was loaded")
    else:
        return model
    log.error("the model did not load", extra={"model": settings.model_id, "error": message})
    reporter.report(RunnerPhase.FAILED, message)
    return None


@contextmanager
def _few_collections() -> Iterator[None]:
    """Fewer garbage collections while loading, then gc.freeze: collections take a fifth of the time
    of importing torch and transformers, and later some time of every prediction."""
    before = gc.get_threshold()
    gc.set_threshold(_LOADING_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.freeze()


def _options(settings: RunnerSettings) -> EngineOptions:
    spec = settings.spec
    return EngineOptions(
        path=locate.fetch(spec.source, settings.cache_dir),
        dtype=spec.engine.dtype,
        device="cuda" if settings.enable_gpu else "cpu",
        max_batch_size=spec.batching.max_batch_size,
        class_name=spec.engine.class_name,
        parameters=spec.engine.parameters,
    )


def _work(
    settings: RunnerSettings,
    model: BaseInferenceModel,
    metrics: RunnerMetrics,
    reporter: StateReporter,
    load_seconds: float,
    capture: Capture,
    ends: Ends,
) -> RunnerExit:
    interrupt = Interrupt()

    def last_words(code: RunnerExit, message: str) -> None:
        if code is RunnerExit.HUNG:
            reporter.report(RunnerPhase.FAILED, message)

    worker = BatchWorker(
        settings,
        model,
        metrics,
        last_words=last_words,
        interrupt=interrupt,
        capture=capture,
    )

    def stop(*_: Any) -> None:
        worker.request_stop()
        reporter.report(RunnerPhase.DRAINING)

    def forget() -> None:
        """In a forked child: drop everything that acts in the name of this runner."""
        capture.forget()
        worker.forget()
        reporter.forget()

    reporter.working = worker.last_progress
    _say_alive(ends)
    reporter.report(RunnerPhase.READY, load_seconds=load_seconds)
    interrupt.install(SIGTERM=stop, SIGINT=stop)
    interrupt.guard_forks(forget)
    log.info("ready", extra={"model": settings.model_id, "load_seconds": round(load_seconds, 3)})
    _say_alive(ends)  # before the model's code may hold the GIL
    every(settings.lease_seconds / 4, lambda: _say_alive(ends), "alive")
    worker.work()
    reporter.report(RunnerPhase.DRAINING, "stopped")
    reporter.close()
    if worker.context.is_broken:
        return RunnerExit.BROKEN
    try:
        model.unload()
    except BaseException:
        log.exception("the model raised in unload")
    log.info("stopped", extra={"model": settings.model_id})
    return RunnerExit.OK


def _say_alive(ends: Ends) -> None:
    """Write to the parent periodically: threads run. Independent of Redis."""
    with suppress(OSError):
        os.write(ends.alive, b".")
