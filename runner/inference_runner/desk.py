"""What both loops work with: the link, the guard over the model's code, and how runs end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import redis

from inference_contract.pods import RunnerExit
from inference_runner import runs as outcomes_of
from inference_runner.emitter import Emitter
from inference_runner.leases import Pulse
from inference_runner.link import Link
from inference_runner.metrics import Metrics
from inference_runner.runs import Outcome, Run
from inference_runner.watchdog import Watchdog

log = logging.getLogger(__name__)


class Desk:
    """
    Args:
        predict_seconds: the longest run of one prediction.
        connect: makes a Redis client; used when this one's thread hangs in the model's code.
        stopping: whether the worker has been told to stop.
        hung: told why, before the process ends.
    """

    def __init__(
        self,
        link: Link,
        emitter: Emitter,
        pulse: Pulse,
        metrics: Metrics,
        *,
        predict_seconds: float,
        connect: Callable[[], redis.Redis],
        stopping: Callable[[], bool],
        hung: Callable[[str], None],
    ) -> None:
        self.link, self.emitter, self.metrics, self.stopping = link, emitter, metrics, stopping
        self.counts = {True: 0, False: 0}
        """Ended runs by whether they succeeded, for RQ's tools."""
        self._pulse = pulse
        self._predict_seconds, self._connect, self._hung = predict_seconds, connect, hung
        self._guarded: Sequence[Run] = ()
        self.watchdog = Watchdog(self._expired)

    @contextmanager
    def guarded(self, runs: Sequence[Run], seconds: float | None = None) -> Iterator[None]:
        """The model's code runs in here, for these runs."""
        self._guarded = runs
        self._pulse.notice()
        with self.watchdog.guard(self._predict_seconds if seconds is None else seconds):
            yield

    def batch_done(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        """The runs of one forward pass have ended."""
        self.metrics.batch(len(runs))
        self._ended(runs, outcomes)

    def end(self, run: Run, outcome: Outcome) -> None:
        self._ended([run], [outcome])

    def _ended(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        told = [self.emitter.end(*pair) for pair in zip(runs, outcomes, strict=True)]
        self.metrics.ended(runs, told)
        failures = [run.id for run, end in zip(runs, told, strict=True) if end.error is not None]
        self.counts[True] += len(runs) - len(failures)
        self.counts[False] += len(failures)
        if log.isEnabledFor(logging.INFO):
            extra = {"seconds": round(runs[0].elapsed(), 4), "not_succeeded": failures}
            if len(runs) == 1:
                extra |= {"prediction": runs[0].id, "attempt": runs[0].attempt}
            else:
                extra |= {"predictions": [run.id for run in runs]}
            log.info("ended", extra=extra)

    def _expired(self) -> None:
        """On the watchdog's thread: the model's code hangs, and only the process' end stops it.

        Who hung alone has failed. Of several, nobody knows who did: their leases run out, and each
        runs again, alone.
        """
        runs = self._guarded
        message = f"the model did not return within {self._predict_seconds:g} s"
        log.critical(message, extra={"predictions": [run.id for run in runs]})
        if len(runs) == 1:
            self.emitter.end(runs[0], outcomes_of.timed_out(self._predict_seconds))
        try:
            self.link.say_through(self._connect())
            self._hung(message)
        except Exception:
            log.exception("the last words were not heard")
        finally:
            os._exit(RunnerExit.HUNG)
