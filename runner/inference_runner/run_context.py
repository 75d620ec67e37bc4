"""Shared by both loops: the session, the watch over the model's code, and ends of runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from inference_contract.pods import RunnerExit
from inference_runner import runs as outcomes_of
from inference_runner.metrics import RunnerMetrics
from inference_runner.model_code.capture import Capture
from inference_runner.model_code.interrupt import Interrupt, Stopped
from inference_runner.model_code.watchdog import EVERY, every
from inference_runner.redis.emitter import Emitter
from inference_runner.redis.session import RedisSession
from inference_runner.runs import Outcome, Run

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_GRACE = 1.0
"""Seconds for the model's code to return after an interrupt or its deadline."""


@dataclass(slots=True, eq=False)
class Work:
    """The current call of the model's code."""

    runs: Sequence[Run]
    deadline: float
    """Monotonic."""
    stop_by: float | None = None
    """If it was interrupted: when it must have returned (monotonic)."""
    overdue: bool = False
    """Whether its deadline has passed."""

    @property
    def is_wanted(self) -> bool:
        return not all(run.canceled or run.ended for run in self.runs)


class RunContext:
    """
    Args:
        predict_seconds: the longest run of one prediction.
        is_foreign: whether the model's code is its owner's and may hang.
        notice: called when a run has begun.
        stopping: whether the worker has been told to stop.
        replace: sends all events and ends the process.
    """

    def __init__(
        self,
        session: RedisSession,
        emitter: Emitter,
        metrics: RunnerMetrics,
        *,
        predict_seconds: float,
        is_foreign: bool,
        notice: Callable[[], None],
        stopping: Callable[[], bool],
        replace: Callable[[RunnerExit, str], None],
        interrupt: Interrupt,
        capture: Capture,
    ) -> None:
        self.session, self.emitter, self.metrics = session, emitter, metrics
        self.counts = {True: 0, False: 0}
        """Ended runs by whether they succeeded, for RQ's tools."""
        self.is_broken = False
        """Whether this process can run no further predictions."""
        self.predict_seconds = predict_seconds
        self._is_foreign, self._notice, self._stopping = is_foreign, notice, stopping
        self._replace, self._interrupt, self._capture = replace, interrupt, capture
        self._work: Work | None = None
        self._pid = os.getpid()
        every(EVERY, self._watch, "watch")

    def stopping(self) -> bool:
        return self.is_broken or self._stopping()

    @property
    def is_working(self) -> bool:
        """Whether the model's code has time left."""
        return self._work is not None

    def call(self, runs: Sequence[Run], code: Callable[[], T], deadline: float) -> T:
        """Run the model's code for these runs. Returns its result.

        Raises:
            Stopped: it was stopped, or its deadline passed: the result is dropped.
        """
        work = Work(runs, deadline)
        self._capture.begin(runs)
        self._work = work
        self._notice()
        try:
            self._interrupt.enter(work)
            try:
                result = code()
            finally:
                self._interrupt.leave()
        except BaseException:
            if work.stop_by is not None:
                raise Stopped from None
            raise
        finally:
            self._interrupt.leave()
            if os.getpid() != self._pid:  # a child that the model's code has forked came back
                os._exit(1)
            self._work = None
            if self._is_foreign:
                self._interrupt.restore()
            if not self._capture.finish() and not self.is_broken:
                self.break_down(OSError("the model's code closed the runner's file descriptors"))
        if work.stop_by is not None:
            raise Stopped
        return result

    def batch_done(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        """The runs of one forward pass have ended."""
        self.metrics.batch(len(runs))
        self._ended(runs, outcomes)

    def end(self, run: Run, outcome: Outcome) -> None:
        self._ended([run], [outcome])

    def give_back(self, runs: Sequence[Run], *, suspect: bool) -> None:
        """Return unfinished runs, for another runner."""
        for run in runs:
            self.emitter.end(run, outcomes_of.returned(suspect=suspect))
        if runs:
            extra = {"predictions": [run.id for run in runs], "suspect": suspect}
            log.warning("given back", extra=extra)

    def break_down(self, error: BaseException) -> None:
        self.is_broken = True
        log.critical(
            "nothing can be run in this process any more: a new one is needed", exc_info=error
        )

    def look(self) -> None:
        """On the heartbeat's thread, while runs are claimed: end canceled and overdue ones.

        The model's code continues while any result is still wanted.
        """
        self._capture.catch_up()
        for run in list(self.session.mine.values()) if self._work is not None else ():
            if run.ended:
                continue
            if run.canceled:
                self.end(run, outcomes_of.canceled(run.so_far))
            elif run.worked() > self.predict_seconds + STOP_GRACE and run.growing is not None:
                self.end(run, outcomes_of.timed_out(self.predict_seconds, run.so_far))

    def _ended(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        pairs = zip(runs, outcomes, strict=True)
        told = [(run, end) for run, o in pairs if (end := self.emitter.end(run, o)) is not None]
        if not told:
            return
        self.metrics.ended([run for run, _ in told], [end for _, end in told])
        failures = [run.id for run, end in told if end.error is not None]
        self.counts[True] += len(told) - len(failures)
        self.counts[False] += len(failures)
        if log.isEnabledFor(logging.INFO):
            first = told[0][0]
            extra = {"seconds": round(first.elapsed(), 4), "not_succeeded": failures}
            if len(told) == 1:
                extra |= {"prediction": first.id, "attempt": first.attempt}
            else:
                extra |= {"predictions": [run.id for run, _ in told]}
            log.info("ended", extra=extra)

    def _watch(self) -> None:
        """On a watchdog thread: stop code whose results are unwanted, or that runs too long."""
        work, now = self._work, time.monotonic()
        if work is None:
            return
        if work.stop_by is None:
            work.overdue = now > work.deadline
            if work.overdue or not work.is_wanted:
                work.stop_by = now + STOP_GRACE
                self._interrupt.request(work)
        elif now > work.stop_by and work is self._work:
            if now > work.deadline + STOP_GRACE:
                self._give_up(work, RunnerExit.HUNG)
            elif self._is_foreign and self._interrupt.installed:
                self._give_up(work, RunnerExit.STOPPED)

    def _give_up(self, work: Work, code: RunnerExit) -> None:
        """The code does not return: end the process.

        A single run has failed. Of several runs it is unknown which hung: each runs again, alone.
        """
        alone = len(work.runs) == 1
        for run in work.runs:
            if run.canceled:
                self.end(run, outcomes_of.canceled(run.so_far))
            elif alone or run.growing is not None:
                self.end(run, outcomes_of.timed_out(self.predict_seconds, run.so_far))
        others = [run for run in list(self.session.mine.values()) if not run.ended]
        self.give_back([run for run in others if run in work.runs], suspect=True)
        self.give_back([run for run in others if not run.ended], suspect=False)
        message = (
            f"the model did not return within {self.predict_seconds:g} s"
            if code is RunnerExit.HUNG
            else "a canceled prediction's code did not stop"
        )
        log.critical(message, extra={"predictions": [run.id for run in work.runs]})
        self._replace(code, message)
