"""The JSON of a prediction in the API."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import orjson

from inference_contract import values
from inference_contract.predictions import PredictionStatus
from inference_gateway.lifecycle import ids
from inference_gateway.lifecycle.prediction import Row, State
from inference_gateway.postgres import stored

_log = logging.getLogger(__name__)
_Row = TypeVar("_Row", bound=Row)


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and `Z`, so that the texts sort as the moments do."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    text = orjson.dumps(moment, option=orjson.OPT_UTC_Z)[1:-1].decode()  # 5 times faster.
    return text if moment.microsecond else f"{text[:-1]}.000000Z"


def _optional(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def to_wire(row: Row, base_url: str) -> dict[str, Any]:
    """Replicate's prediction object, with the `model_id` and `webhook` of our own API.

    Args:
        base_url: URL of the API for clients, without a trailing slash.
    """
    shown = ids.chosen_by(row.get("idempotency_key")) or str(row["id"])
    url = f"{base_url}/v1/predictions/{shown}"
    wire = {
        "id": shown,
        "model": row["model"],
        "model_id": row["model"],
        "version": row["version"],
        "status": row["status"],
        "input": row["input"],
        "output": row["output"],
        "logs": row["logs"],
        "error": row["error"],
        "error_code": row["error_code"],
        "metrics": _metrics(row),
        "created_at": rfc3339(row["created_at"]),
        "started_at": _optional(row["started_at"]),
        "completed_at": _optional(row["completed_at"]),
        "deadline": rfc3339(row["deadline"]),
        "data_removed": False,
        "source": "api",
        "webhook": row["webhook"],
        "urls": {"get": url, "cancel": f"{url}/cancel", "stream": f"{url}/stream", "web": url},
    }
    if "status_detail" in row:
        wire["status_detail"] = row["status_detail"]
    return wire


def show(row: Row, base_url: str) -> dict[str, Any]:
    """As `to_wire`, for a row from the database: without its content if that is no valid JSON of
    the API; `error` says so."""
    if all(stored.is_value(row[column]) for column in ("input", "output", "metrics")):
        return to_wire(row, base_url)
    return to_wire(without_content(row, "it holds what is no value of this API"), base_url)


def encode(row: Row, base_url: str) -> list[bytes]:
    """Pieces of `show` as JSON, for any content of the row."""
    try:
        return stored.in_pieces(show(row, base_url))
    except Exception as error:  # the other predictions of a list must be shown
        _log.exception("a prediction cannot be shown", extra={"prediction": str(row["id"])})
        return [orjson.dumps(to_wire(without_content(row, values.text(str(error))), base_url))]


def without_content(row: _Row, reason: str) -> _Row:
    """The row without its large columns, and an `error` that says why."""
    error = f"This prediction cannot be shown: {reason}."
    nothing: dict[str, object] = {"input": {}, "output": None, "metrics": None, "logs": ""}
    said = {"error": error, "error_code": "unreadable"}
    return cast("_Row", {**row, **nothing, **said})


def _metrics(row: Row) -> dict[str, Any]:
    """The engine's metrics, the seconds that the prediction ran, and its total seconds."""
    metrics = dict(row["metrics"]) if isinstance(row["metrics"], dict) else {}
    if row["completed_at"] is not None:
        if row["started_at"] is not None:
            ran = row["completed_at"] - row["started_at"]
            metrics.setdefault("predict_time", ran.total_seconds())
        took = row["completed_at"] - row["created_at"]
        metrics["total_time"] = took.total_seconds()
    return metrics


def has_ended(row: State) -> bool:
    return PredictionStatus(row["status"]).is_terminal
