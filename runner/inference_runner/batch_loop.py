"""The loop for models that run a whole batch: claim, run, and send the ends with the next claim.

A batch gathers in the queue while the previous one runs; no job waits for a batch to fill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from inference_runner import runs
from inference_runner.engines.base import BaseInferenceModel, InputError
from inference_runner.model_code import call, health
from inference_runner.model_code.interrupt import Stopped
from inference_runner.run_context import RunContext
from inference_runner.runs import Outcome, Run

log = logging.getLogger(__name__)


class BatchLoop:
    def __init__(self, model: BaseInferenceModel, context: RunContext, max_batch_size: int) -> None:
        self._model, self._context = model, context
        self._together = hasattr(model, "predict_batch")
        self._want = max_batch_size if self._together else 1

    def run(self) -> None:
        """Run until told to stop, and all claimed jobs are done and their events sent."""
        context = self._context
        claimed = context.session.exchange(self._want, wait=True)
        while claimed or not context.stopping():
            if claimed:
                self._forward(claimed, together=self._together)
            going_on = not context.stopping()
            claimed = context.session.exchange(self._want if going_on else 0, wait=going_on)

    def _forward(self, claimed: Sequence[Run], *, together: bool) -> None:
        if not together:
            for run in claimed:
                self._alone(run)
            return
        context, live = self._context, self._live(claimed)
        if not live:
            return
        for run in live:
            run.begin()
        deadline = time.monotonic() + context.predict_seconds
        try:
            outcomes = context.call(live, lambda: call.run_together(self._model, live), deadline)
        except BaseException as error:
            self._again(live, error)
        else:
            context.batch_done(live, outcomes)

    def _live(self, claimed: Sequence[Run]) -> list[Run]:
        """The runs that still have to be run here."""
        live = []
        for run in claimed:
            if run.canceled:
                self._context.end(run, runs.canceled())
            elif self._context.is_broken:
                self._context.give_back([run], suspect=False)
            elif not run.ended:
                live.append(run)
        return live

    def _again(self, live: Sequence[Run], error: BaseException) -> None:
        """Run the halves of a batch that raised, recursively: it is not known which input failed.

        So a batch that is too large for the memory runs in parts, and only the bad input fails.
        """
        context = self._context
        if isinstance(error, Stopped):
            parts = [[run] for run in live]
        else:
            log.info("a batch raised; its parts run one by one", exc_info=error)
            if not self._is_sound(live):
                context.give_back(live, suspect=True)
                return
            middle = len(live) // 2
            parts = [[*live[:middle]], [*live[middle:]]] if middle else [[*live]]
            health.free_memory()
        for part in parts:
            self._forward(part, together=len(part) > 1)
            context.session.exchange()

    def _alone(self, run: Run) -> None:
        context = self._context
        if not self._live([run]):
            return
        run.begin()
        deadline = time.monotonic() + context.predict_seconds
        outcome: Outcome
        try:
            outcome = context.call([run], lambda: call.run_alone(self._model, run), deadline)
        except Stopped:
            outcome = runs.timed_out(context.predict_seconds)
        except call.Raised as raised:
            outcome = raised.outcome
            if not isinstance(raised.error, InputError):
                self._is_sound([run])
        if run.canceled:  # Its result is dropped.
            outcome = runs.canceled()
        context.batch_done([run], [outcome])

    def _is_sound(self, live: Sequence[Run]) -> bool:
        """Whether the model can go on after an error."""
        context = self._context
        try:
            deadline = time.monotonic() + context.predict_seconds
            context.call(live, lambda: health.check(self._model), deadline)
        except Stopped:
            return True
        except BaseException as error:
            context.break_down(error)
        return not context.is_broken
