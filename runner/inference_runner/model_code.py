"""Running a model's code: whatever it raises becomes the outcome of a prediction."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Sequence
from typing import Any

from inference_contract.predictions import ErrorCode
from inference_runner.engines.base import InputError
from inference_runner.runs import Outcome, Run, failed, succeeded

log = logging.getLogger(__name__)

LOG_LINES = 20
"""Of a traceback that its prediction gets to see."""


def failure(run: Run, error: BaseException, output: Any = None) -> Outcome:
    """What a raised exception means, with `output` as far as it came."""
    if isinstance(error, InputError):
        return failed(str(error), ErrorCode.INPUT, output=output)
    log.error(
        "the model raised",
        exc_info=error,
        extra={"prediction": run.id, "attempt": run.attempt},
    )
    lines = "".join(traceback.format_exception(error)).splitlines()[-LOG_LINES:]
    message = f"{type(error).__name__}: {error}".removesuffix(": ")
    return failed(message, ErrorCode.MODEL, output=output, logs="\n".join(lines) + "\n")


def run_alone(model: Any, run: Run) -> Outcome:
    try:
        output = model.predict(run.job["input"])
        if inspect.isgenerator(output):
            output = list(output)
        return succeeded(output)
    except (Exception, SystemExit) as error:
        return failure(run, error)


def run_together(model: Any, runs: Sequence[Run]) -> list[Outcome] | None:
    """The outcomes of one `predict_batch`; None if it raised: then each has to be run alone."""
    try:
        outputs = model.predict_batch([run.job["input"] for run in runs])
    except (Exception, SystemExit):
        log.info("a batch raised; its predictions run one by one", exc_info=True)
        return None
    if len(outputs) != len(runs):
        message = f"predict_batch returned {len(outputs)} outputs for {len(runs)} inputs."
        return [failed(message, ErrorCode.MODEL) for _ in runs]
    return [succeeded(output) for output in outputs]
