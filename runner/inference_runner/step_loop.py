"""The loop for engines whose requests join and leave between steps.

Every 50 ms an exchange with Redis claims jobs for the free slots and reads cancel requests. A
request's first output is sent at once, further output every 100 ms.
"""

from __future__ import annotations

import logging
import time

from inference_contract import values
from inference_contract.predictions import ErrorCode
from inference_runner import outputs, runs
from inference_runner.engines.base import Delta, InputError, Request, StepEngine
from inference_runner.model_code import call, health
from inference_runner.model_code.interrupt import Stopped
from inference_runner.redis.emitter import MAX_OUTPUT_BYTES
from inference_runner.run_context import RunContext
from inference_runner.runs import Outcome, Run
from inference_runner.streaming import StreamedOutput

log = logging.getLogger(__name__)

EXCHANGE_EVERY = 0.05
OUTPUT_EVERY = 0.1
"""Seconds. Output wakes Redis, the gateway and the reader, on the cores that the model may use: on
two cores a stream of one lost 5 % of its tokens per second at 50 ms, none at 1 s."""
HUNG_GRACE = 1.0
"""Seconds that a step may take past the deadline: runs are preferably stopped between steps."""


def is_fault(delta: Delta) -> bool:
    """Whether the error may be the engine's, not only the input's."""
    return delta.error is not None and not isinstance(delta.error, InputError)


class StepLoop:
    def __init__(self, engine: StepEngine, context: RunContext, predict_seconds: float) -> None:
        self._engine, self._context = engine, context
        self._predict_seconds = predict_seconds
        self._active: dict[str, StreamedOutput] = {}
        self._next_exchange = 0.0
        self._next_output = 0.0

    def run(self) -> None:
        """Run until told to stop, and all claimed jobs are done and their events sent."""
        context = self._context
        while self._active or not context.stopping():
            self._exchange()
            if self._active:
                self._step()
        context.session.exchange()

    def _exchange(self) -> None:
        """Send events and claim jobs; waits for jobs if the engine is idle."""
        now = time.monotonic()
        if self._active and now < self._next_exchange:
            return
        self._next_exchange = now + EXCHANGE_EVERY
        if now >= self._next_output:
            self._next_output = now + OUTPUT_EVERY
            self._say_outputs()
        active = len(self._active)
        going_on = not self._context.stopping()
        want = self._engine.slots - active if going_on and not self._solo() else 0
        claimed = self._context.session.exchange(want, active=active, wait=going_on and not active)
        waited = time.monotonic() - now
        for output in self._active.values():
            output.run.waited += waited
        for run in claimed:
            self._join(run)

    def _say_outputs(self) -> None:
        for output in self._active.values():
            for entry in output.entries():
                self._context.emitter.stream(output.run, entry)
            if output.notice_due():
                self._context.emitter.output(output.run, output=output.all)

    def _solo(self) -> bool:
        """Whether a suspect prediction runs, which must run alone."""
        return any(output.run.is_suspect for output in self._active.values())

    def _join(self, run: Run) -> None:
        if run.canceled:
            self._context.end(run, runs.canceled())
            return
        if self._context.is_broken:
            self._context.give_back([run], suspect=False)
            return
        run.begin()
        request = Request(run.id, run.input())
        try:
            self._context.call([run], lambda: self._engine.add(request), self._deadline([run]))
        except Stopped:
            self._context.end(run, self._stopped(run))
        except BaseException as error:
            self._context.end(run, call.failure(run, error))
            if not isinstance(error, InputError):
                self._check([run])
        else:
            self._active[run.id] = StreamedOutput(run, is_text=self._engine.is_text)

    def _deadline(self, active: list[Run]) -> float:
        """The deadline of a call: the latest of all active runs. Overdue runs are ended meanwhile;
        the first step of a new run may need more time than an old run has left."""
        newest = min(run.worked() for run in active)
        return time.monotonic() + max(self._predict_seconds - newest, 0) + HUNG_GRACE

    def _step(self) -> None:
        self._stop_some()
        if not self._active:
            return
        active = [output.run for output in self._active.values()]
        try:
            deltas = self._context.call(active, self._engine.step, self._deadline(active))
        except Stopped:
            for run in active:
                self._leave(run, self._stopped(run))
        except BaseException as error:
            self._failed(active, error)
        else:
            if any(is_fault(delta) for delta in deltas):
                self._check(active)
            for delta in deltas:
                if not (self._context.is_broken and is_fault(delta) and len(active) > 1):
                    self._take(delta)
            if self._context.is_broken:
                self._give_back_the_rest(suspect=len(active) > 1)

    def _give_back_the_rest(self, *, suspect: bool) -> None:
        """Return the runs of a broken engine. Of several the cause is unknown: each runs alone."""
        for output in list(self._active.values()):
            self._leave(output.run, runs.returned(suspect=suspect))

    def _stopped(self, run: Run) -> Outcome:
        if run.canceled:
            return runs.canceled(run.so_far)
        return runs.timed_out(self._predict_seconds, run.so_far)

    def _failed(self, active: list[Run], error: BaseException) -> None:
        """A step raised."""
        self._check(active)
        if self._context.is_broken and len(active) > 1:
            log.error("a step raised", exc_info=error)
            self._give_back_the_rest(suspect=True)
            return
        for run in active:
            self._leave(run, call.failure(run, error, run.so_far))

    def _check(self, active: list[Run]) -> None:
        """After an error: check whether the engine can go on."""
        deadline = time.monotonic() + self._predict_seconds
        try:
            self._context.call(active, lambda: health.check(self._engine), deadline)
        except Stopped:
            pass
        except BaseException as error:
            self._context.break_down(error)

    def _stop_some(self) -> None:
        """Between steps: end canceled and overdue runs."""
        for output in list(self._active.values()):
            if output.run.ended:  # ended during a step
                self._leave(output.run, runs.canceled())
            elif output.run.canceled:
                self._leave(output.run, runs.canceled(output.so_far))
            elif output.run.worked() > self._predict_seconds:
                outcome = runs.timed_out(self._predict_seconds, output.so_far)
                self._leave(output.run, outcome)

    def _take(self, delta: Delta) -> None:
        output = self._active.get(delta.id)
        if output is None:
            return
        run = output.run
        if run.ended:  # ended during the step
            self._leave(run, runs.canceled(), active=not delta.done)
            return
        try:
            if delta.output is not None or delta.is_item:
                output.add(delta.output)
                if not run.sequence:
                    self._next_exchange = self._next_output = 0.0
        except (TypeError, values.Unacceptable) as error:
            self._leave(run, runs.failed(outputs.refusal(error, delta.output), ErrorCode.OUTPUT))
            return
        if output.too_large:
            message = f"The output is larger than {MAX_OUTPUT_BYTES} bytes."
            self._leave(run, runs.failed(message, ErrorCode.TOO_LARGE))
        elif delta.error is not None:
            self._leave(run, call.failure(run, delta.error, output.so_far), active=False)
        elif delta.done:
            whole = output.all if delta.whole is None else delta.whole
            self._leave(run, runs.succeeded(whole, delta.metrics), active=False)

    def _leave(self, run: Run, outcome: Outcome, *, active: bool = True) -> None:
        """End a run. `active`: whether the engine still has it."""
        if active:
            self._remove(run)
        output = self._active.pop(run.id)
        if not run.ended:
            for entry in output.entries():
                self._context.emitter.stream(run, entry)
        self._context.end(run, outcome)
        self._next_exchange = 0.0

    def _remove(self, run: Run) -> None:
        """Remove it from the engine; this may run the model's code (a generator's `finally`)."""
        if self._context.is_broken:
            return
        deadline = time.monotonic() + HUNG_GRACE
        try:
            self._context.call([run], lambda: self._engine.remove(run.id), deadline)
        except BaseException as error:
            log.error("the model raised when it was stopped", exc_info=error)
