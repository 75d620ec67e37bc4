"""Runs a model's code: every exception becomes the outcome of a prediction."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Sequence
from typing import Any

from inference_contract.predictions import ErrorCode
from inference_runner.engines.base import InputError
from inference_runner.model_code import paths
from inference_runner.runs import Outcome, Run, failed, succeeded

log = logging.getLogger(__name__)

LOG_LINES = 20
"""Lines of a traceback in the prediction's logs."""
MAX_MESSAGE = 10_000
"""Characters of an exception's message in the prediction's error."""


def words(error: BaseException) -> str:
    """An exception's message; its own code may fail to give one."""
    try:
        return str(error)[:MAX_MESSAGE]
    except BaseException as second:
        return f"<its message raised {type(second).__name__}>"


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {words(error)}".removesuffix(": ")


def failure(run: Run, error: BaseException, output: Any = None) -> Outcome:
    """The outcome of an exception, with the output so far."""
    if isinstance(error, InputError):
        return failed(paths.without(words(error)), ErrorCode.INPUT, output=output)
    lines = "".join(traceback.format_exception(error)).splitlines()
    log.error(
        "the model raised",
        extra={
            "prediction": run.id,
            "attempt": run.attempt,
            "error": describe(error),
            "exception": "\n".join(lines)[-MAX_MESSAGE:],
        },
    )
    # Callers must not see paths of this machine; the process' log has the whole traceback.
    run.print(paths.without("\n".join(lines[-LOG_LINES:]) + "\n"))
    return failed(paths.without(describe(error)), ErrorCode.MODEL, output=output)


class Raised(Exception):
    """The model's code raised `error`; `outcome` is the outcome of the run."""

    def __init__(self, error: BaseException, outcome: Outcome) -> None:
        super().__init__()
        self.error, self.outcome = error, outcome


def run_alone(model: Any, run: Run) -> Outcome:
    """Raises Raised."""
    try:
        output = model.predict(run.input())
        return succeeded(list(output) if inspect.isgenerator(output) else output)
    except BaseException as error:
        raise Raised(error, failure(run, error)) from None


def run_together(model: Any, runs: Sequence[Run]) -> list[Outcome]:
    """The outcomes of one `predict_batch`. Its exceptions are passed on: it is not known which
    input caused them."""
    outputs = model.predict_batch([run.input() for run in runs])
    if len(outputs) != len(runs):
        message = f"predict_batch returned {len(outputs)} outputs for {len(runs)} inputs."
        return [failed(message, ErrorCode.MODEL) for _ in runs]
    return [succeeded(output) for output in outputs]
