"""The loop for models that take a batch whole: claim, forward, and say it with the next claim.

A batch forms in the queue while the previous one runs; nothing waits for a batch to fill.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference_runner import model_code, runs
from inference_runner.desk import Desk
from inference_runner.engines.base import BaseInferenceModel
from inference_runner.runs import Outcome, Run


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
                self._run(claimed)
            going_on = not desk.stopping()
            claimed = desk.link.exchange(self._want if going_on else 0, wait=going_on)

    def _run(self, claimed: list[Run]) -> None:
        live = []
        for run in claimed:
            if run.canceled:
                self._desk.end(run, runs.canceled())
            else:
                live.append(run)
        if live:
            self._forward(live)

    def _forward(self, live: Sequence[Run]) -> None:
        desk = self._desk
        if not self._together:
            for run in live:
                self._alone(run)
            return
        for run in live:
            run.begin()
        with desk.guarded(live):
            outcomes = model_code.run_together(self._model, live)
        if outcomes is None:
            for run in live:
                self._alone(run)
                desk.link.exchange()
        else:
            desk.batch_done(live, [self._final(*pair) for pair in zip(live, outcomes, strict=True)])

    def _alone(self, run: Run) -> None:
        run.begin()
        with self._desk.guarded([run]):
            outcome = model_code.run_alone(self._model, run)
        self._desk.batch_done([run], [self._final(run, outcome)])

    @staticmethod
    def _final(run: Run, outcome: Outcome) -> Outcome:
        """The result of a run that was canceled meanwhile is dropped."""
        return runs.canceled() if run.canceled else outcome
