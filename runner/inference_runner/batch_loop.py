"""The loop for models that take a batch whole: claim, forward, and say it with the next claim.

A batch forms in the queue while the previous one runs; nothing waits for a batch to fill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from inference_runner import health, model_code, runs
from inference_runner.desk import Desk
from inference_runner.engines.base import BaseInferenceModel, InputError
from inference_runner.interrupt import Stopped
from inference_runner.runs import Outcome, Run

log = logging.getLogger(__name__)


class BatchLoop:
    def __init__(self, model: BaseInferenceModel, desk: Desk, max_batch_size: int) -> None:
        self._model, self._desk = model, desk
        self._together = hasattr(model, "predict_batch")
        self._want = max_batch_size if self._together else 1

    def run(self) -> None:
        """Until told to stop and everything claimed is done and said."""
        desk = self._desk
        claimed = desk.link.exchange(self._want, wait=True)
        while claimed or not desk.stopping():
            if claimed:
                self._forward(claimed, together=self._together)
            going_on = not desk.stopping()
            claimed = desk.link.exchange(self._want if going_on else 0, wait=going_on)

    def _forward(self, claimed: Sequence[Run], *, together: bool) -> None:
        if not together:
            for run in claimed:
                self._alone(run)
            return
        desk, live = self._desk, self._live(claimed)
        if not live:
            return
        for run in live:
            run.begin()
        deadline = time.monotonic() + desk.predict_seconds
        try:
            outcomes = desk.call(live, lambda: model_code.run_together(self._model, live), deadline)
        except BaseException as error:
            self._again(live, error)
        else:
            desk.batch_done(live, outcomes)

    def _live(self, claimed: Sequence[Run]) -> list[Run]:
        """Those that are still to be run, here."""
        live = []
        for run in claimed:
            if run.canceled:
                self._desk.end(run, runs.canceled())
            elif self._desk.is_broken:
                self._desk.give_back([run], suspect=False)
            elif not run.ended:
                live.append(run)
        return live

    def _again(self, live: Sequence[Run], error: BaseException) -> None:
        """Nobody knows whose input it was: halves of the batch, down to each alone.

        So a batch that is too large for the memory is done in parts, and one bad input fails alone.
        """
        desk = self._desk
        if isinstance(error, Stopped):
            parts = [[run] for run in live]
        else:
            log.info("a batch raised; its parts run one by one", exc_info=error)
            if not self._is_sound(live):
                desk.give_back(live, suspect=True)
                return
            middle = len(live) // 2
            parts = [[*live[:middle]], [*live[middle:]]] if middle else [[*live]]
            health.free_memory()
        for part in parts:
            self._forward(part, together=len(part) > 1)
            desk.link.exchange()

    def _alone(self, run: Run) -> None:
        desk = self._desk
        if not self._live([run]):
            return
        run.begin()
        deadline = time.monotonic() + desk.predict_seconds
        outcome: Outcome
        try:
            outcome = desk.call([run], lambda: model_code.run_alone(self._model, run), deadline)
        except Stopped:
            outcome = runs.timed_out(desk.predict_seconds)
        except model_code.Raised as raised:
            outcome = raised.outcome
            if not isinstance(raised.error, InputError):
                self._is_sound([run])
        if run.canceled:  # Its result is dropped.
            outcome = runs.canceled()
        desk.batch_done([run], [outcome])

    def _is_sound(self, live: Sequence[Run]) -> bool:
        """Whether the model can go on after an error."""
        desk = self._desk
        try:
            deadline = time.monotonic() + desk.predict_seconds
            desk.call(live, lambda: health.check(self._model), deadline)
        except Stopped:
            return True
        except BaseException as error:
            desk.break_down(error)
        return not desk.is_broken
