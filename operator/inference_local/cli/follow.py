"""Wait for a prediction and show its progress."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from inference_contract import backoff
from inference_contract.inferencemodel import Reason
from inference_contract.predictions import PredictionStatus
from inference_local.cli import terminal
from inference_local.cli.context import ProgressLine
from inference_local.cli.errors import CliError

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

    from inference_local.cli.api import Api

FIRST_POLL = 0.02
POLL = 0.25
RECORDED_WITHIN = 10.0
"""Seconds from the end of a stream until its row must be written: more than recorder and sweeper
need."""
HOPELESS = frozenset({Reason.LOAD_FAILED, Reason.CRASH_LOOP_BACK_OFF, Reason.INVALID_MODEL})


def until_ended(client: Api, prediction: dict[str, Any]) -> dict[str, Any]:
    """Raises CliError."""
    progress = ProgressLine()
    polls = 0
    try:
        while not PredictionStatus(prediction["status"]).is_terminal:
            polls += 1
            pause = backoff.pause(polls, FIRST_POLL, POLL)
            if pause == POLL:
                _show_wait(client, prediction, progress, give_up=False)
            time.sleep(pause)
            prediction = _get(client, prediction)
        return prediction
    finally:
        progress.clear()


def events(
    client: Api, prediction: dict[str, Any], *, give_up: bool = False
) -> Iterator[ServerSentEvent]:
    """The prediction's events from its first one, also when the stream is opened late.

    Args:
        give_up: fail if the model cannot be loaded, instead of waiting until it can.

    Raises:
        CliError: if `give_up` applies, or if the stream breaks off.
    """
    progress = ProgressLine()
    try:
        while _show_wait(client, prediction, progress, give_up=give_up):
            time.sleep(POLL)
            prediction = _get(client, prediction)
        progress.clear()
        yield from client.events(prediction["urls"]["stream"])
    finally:
        progress.clear()


def print_stream(client: Api, prediction: dict[str, Any], *, give_up: bool = False) -> None:
    """Print output to standard output as it arrives. Raises CliError."""
    for event in events(client, prediction, give_up=give_up):
        if event.event == "output":
            sys.stdout.write(event.data)
            sys.stdout.flush()
    sys.stdout.write("\n")


def recorded(client: Api, prediction: dict[str, Any]) -> dict[str, Any]:
    """The prediction after its stream has ended."""
    deadline = time.monotonic() + RECORDED_WITHIN
    while True:
        prediction = _get(client, prediction)
        ended = PredictionStatus(prediction["status"]).is_terminal
        if ended or time.monotonic() > deadline:
            return prediction
        time.sleep(0.05)


@contextlib.contextmanager
def created(client: Api, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Create a prediction; Ctrl-C cancels it from the moment that the request is sent.

    Raises:
        CliError: if the server refuses it.
    """
    prediction: dict[str, Any] | None = None
    try:
        with terminal.interrupt_held():
            prediction = client.call("POST", "/v1/predictions", json=body)
        yield prediction
    except KeyboardInterrupt:
        if prediction is None:
            raise
        client.call("POST", prediction["urls"]["cancel"])
        sys.stderr.write("\ncanceled\n")
        sys.exit(130)


def require_success(prediction: dict[str, Any]) -> None:
    """Raises CliError."""
    if prediction["status"] != PredictionStatus.SUCCEEDED:
        code = f" ({prediction['error_code']})" if prediction.get("error_code") else ""
        reason = f": {prediction['error']}" if prediction.get("error") else ""
        raise CliError(f"prediction {prediction['status']}{code}{reason}")


def text_of(output: Any) -> str:
    if isinstance(output, str):
        return output
    if isinstance(output, list) and all(isinstance(item, str) for item in output):
        return "".join(output)
    return terminal.dumps(output, indent=2)


def truth(status: dict[str, Any]) -> str:
    """Why a model is not ready, as a sentence."""
    reason, message = status["reason"], status["message"]
    if reason in (None, Reason.SCALED_TO_ZERO):
        return "starts with the first prediction"
    if reason == Reason.LOADING_MODEL:
        return str(message or "loading the model")
    return f"{reason}: {message}" if message else str(reason)


def _show_wait(
    client: Api, prediction: dict[str, Any], progress: ProgressLine, *, give_up: bool
) -> bool:
    """Show the progress. Returns whether the prediction still waits for its model."""
    if prediction["status"] != PredictionStatus.STARTING:
        progress.show("running")
        return False
    status = client.call("GET", f"/v1/models/{prediction['model']}")["status"]
    if status["ready_replicas"]:
        ahead = status["queued"] + status["in_flight"] - 1
        progress.show(f"queued behind {ahead}" if ahead > 0 else "queued")
        return False
    if give_up and status["reason"] in HOPELESS:
        client.call("POST", prediction["urls"]["cancel"])
        lines = [truth(status), *(f"  {line}" for line in status["log_tail"])]
        raise CliError("\n".join(lines))
    progress.show(truth(status))
    return True


def _get(client: Api, prediction: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.call("GET", f"/v1/predictions/{prediction['id']}")
    return found
