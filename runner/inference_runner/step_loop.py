"""The loop for engines whose requests join and leave between steps.

Every 50 ms an exchange with Redis claims new work for the free slots and reads what shall be
canceled. A request's first output leaves at once, what follows every 100 ms.
"""

from __future__ import annotations

import time

from inference_contract import values
from inference_contract.predictions import ErrorCode
from inference_runner import model_code, runs
from inference_runner.desk import Desk
from inference_runner.emitter import MAX_OUTPUT_BYTES, refusal
from inference_runner.engines.base import Delta, Request, StepEngine
from inference_runner.runs import Outcome, Run
from inference_runner.streaming import Output

EXCHANGE_EVERY = 0.05
OUTPUT_EVERY = 0.1
"""Seconds. Output wakes Redis, the gateway and the reader, on the cores that the model may use: on
two cores a stream of one lost 5 % of its tokens per second at 50 ms, none at 1 s."""
HUNG_GRACE = 1.0
"""Seconds past its time that a step may take: a run is stopped between steps when it can be."""


class StepLoop:
    def __init__(self, engine: StepEngine, desk: Desk, predict_seconds: float) -> None:
        self._engine, self._desk = engine, desk
        self._predict_seconds = predict_seconds
        self._active: dict[str, Output] = {}
        self._next_exchange = 0.0
        self._next_output = 0.0

    def run(self) -> None:
        """Until told to stop and everything claimed is done and said."""
        desk = self._desk
        while self._active or not desk.stopping():
            self._exchange()
            if self._active:
                self._step()
        desk.link.exchange()

    def _exchange(self) -> None:
        """Say what is new and take work in; waits for work if there is nothing to do."""
        now = time.monotonic()
        if self._active and now < self._next_exchange:
            return
        self._next_exchange = now + EXCHANGE_EVERY
        if now >= self._next_output:
            self._next_output = now + OUTPUT_EVERY
            self._say_outputs()
        active = len(self._active)
        going_on = not self._desk.stopping()
        want = self._engine.slots - active if going_on and not self._solo() else 0
        for run in self._desk.link.exchange(want, active=active, wait=going_on and not active):
            self._join(run)

    def _say_outputs(self) -> None:
        for output in self._active.values():
            for entry in output.entries():
                self._desk.emitter.stream(output.run, entry)
            if output.notice_due():
                self._desk.emitter.output(output.run, output=output.all)

    def _solo(self) -> bool:
        """Whether a suspect runs: nothing joins it."""
        return any(output.run.is_suspect for output in self._active.values())

    def _join(self, run: Run) -> None:
        if run.canceled:
            self._desk.end(run, runs.canceled())
            return
        run.begin()
        try:
            with self._desk.guarded([run]):
                self._engine.add(Request(run.id, run.job["input"]))
        except (Exception, SystemExit) as error:
            self._desk.end(run, model_code.failure(run, error))
        else:
            self._active[run.id] = Output(run, is_text=self._engine.is_text)

    def _step(self) -> None:
        self._stop_some()
        if not self._active:
            return
        active = [output.run for output in self._active.values()]
        oldest = max(run.elapsed() for run in active)
        left = max(self._predict_seconds - oldest, 0) + HUNG_GRACE
        try:
            with self._desk.guarded(active, left):
                deltas = self._engine.step()
        except (Exception, SystemExit) as error:
            for run in active:
                self._leave(run, model_code.failure(run, error, self._active[run.id].so_far))
            return
        for delta in deltas:
            self._take(delta)

    def _stop_some(self) -> None:
        """Between steps: cancel what shall stop, and what has had its time."""
        for output in list(self._active.values()):
            if output.run.canceled:
                self._leave(output.run, runs.canceled(output.so_far))
            elif output.run.elapsed() > self._predict_seconds:
                outcome = runs.timed_out(self._predict_seconds, output.so_far)
                self._leave(output.run, outcome)

    def _take(self, delta: Delta) -> None:
        output = self._active[delta.id]
        run = output.run
        try:
            if delta.output is not None:
                output.add(delta.output)
                if not run.sequence:
                    self._next_exchange = self._next_output = 0.0
        except (TypeError, values.Unacceptable) as error:
            self._leave(run, runs.failed(refusal(error), ErrorCode.OUTPUT))
            return
        if output.too_large:
            message = f"The output is larger than {MAX_OUTPUT_BYTES} bytes."
            self._leave(run, runs.failed(message, ErrorCode.TOO_LARGE))
        elif delta.error is not None:
            self._leave(run, model_code.failure(run, delta.error, output.so_far), active=False)
        elif delta.done:
            self._leave(run, runs.succeeded(output.all, delta.metrics), active=False)

    def _leave(self, run: Run, outcome: Outcome, *, active: bool = True) -> None:
        """`active`: the engine still has it."""
        if active:
            self._engine.remove(run.id)
        output = self._active.pop(run.id)
        for entry in output.entries():
            self._desk.emitter.stream(run, entry)
        self._desk.end(run, outcome)
        self._next_exchange = 0.0
