"""The OpenAPI entries of the ASGI endpoints that create predictions."""

from __future__ import annotations

from typing import Any

from inference_contract.predictions import PredictionStatus
from inference_contract.webhooks import WebhookEvent

_TIME = {"type": "string", "format": "date-time"}
_TEXT = {"type": "string"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


PREDICTION: dict[str, Any] = {
    "type": "object",
    "title": "Prediction",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "model": _TEXT,
        "model_id": _TEXT,
        "version": _TEXT,
        "status": {"type": "string", "enum": [status.value for status in PredictionStatus]},
        "input": {"type": "object"},
        "output": {},
        "logs": _TEXT,
        "error": _or_null(_TEXT),
        "error_code": _or_null(_TEXT),
        "metrics": {"type": "object", "additionalProperties": {"type": ["number", "string"]}},
        "created_at": _TIME,
        "started_at": _or_null(_TIME),
        "completed_at": _or_null(_TIME),
        "deadline": _TIME,
        "data_removed": {"type": "boolean"},
        "status_detail": {
            "type": "object",
            "description": "What it waits for; not there once it runs.",
            "required": ["stage", "reason", "message"],
            "properties": {
                "stage": {
                    "type": "string",
                    "enum": ["queued", "starting", "downloading", "loading", "blocked"],
                    "description": "`blocked`: it waits until somebody acts, as the message says.",
                },
                "reason": {"type": "string", "description": "Of the model's condition Ready."},
                "message": _TEXT,
            },
        },
        "source": _TEXT,
        "webhook": _or_null(_TEXT),
        "urls": {
            "type": "object",
            "required": ["get", "cancel", "stream", "web"],
            "additionalProperties": {"type": "string", "format": "uri"},
        },
    },
    "additionalProperties": False,
}
PREDICTION["required"] = [name for name in PREDICTION["properties"] if name != "status_detail"]
_REF = {"$ref": "#/components/schemas/Prediction"}
_URL = _or_null({"type": "string", "format": "uri"})
_PAGE = {
    "type": "object",
    "title": "PredictionPage",
    "required": ["next", "previous", "results"],
    "properties": {"next": _URL, "previous": _URL, "results": {"type": "array", "items": _REF}},
    "additionalProperties": False,
}
# Until OpenAPI 3.2 the schema of a stream is that of each event.
_EVENT = {
    "type": "object",
    "description": "Events `output` and `logs` (text), `error` (JSON with `detail`) and, last, "
    "`done` (JSON), each with an `id`, after which `Last-Event-ID` goes on. Lines that begin with "
    "`:` are comments.",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["output", "logs", "error", "done"]},
        "id": _TEXT,
        "data": _TEXT,
    },
}
ONE: dict[str, Any] = {"content": {"application/json": {"schema": _REF}}}
PAGE: dict[str, Any] = {
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionPage"}}}
}
EVENTS: dict[str, Any] = {"content": {"text/event-stream": {"schema": _EVENT}}}
PREDICTION_OR_EVENTS: dict[str, Any] = {"content": ONE["content"] | EVENTS["content"]}
_MODEL_NAME = {"type": "string", "examples": ["owner/name"]}
CREATE = {
    "type": "object",
    "title": "CreatePrediction",
    "required": ["input"],
    "additionalProperties": False,
    "properties": {
        "model_id": {**_MODEL_NAME, "description": "The model: by this, `model` or `version`."},
        "model": _MODEL_NAME,
        "version": {"type": "string", "examples": ["owner/name", "owner/name:version"]},
        "input": {"type": "object", "description": "What the model's input schema says."},
        "webhook": {"type": "string", "format": "uri", "description": "POSTed the prediction."},
        "webhook_events_filter": {
            "type": "array",
            "items": {"type": "string", "enum": [event.value for event in WebhookEvent]},
            "default": [WebhookEvent.COMPLETED.value],
        },
        "stream": {"type": "boolean", "deprecated": True, "description": "Without effect."},
    },
}
_FORM = {
    "type": "object",
    "required": ["prediction"],
    "properties": {"prediction": {"$ref": "#/components/schemas/CreatePrediction"}},
    "additionalProperties": {"type": "string", "format": "binary"},
    "description": "Every file is an input by the name of its part, as a data: URL.",
}
_DURATION = r"^(?=\d)(\d{1,6}h)?(\d{1,7}m)?(\d{1,8}s)?$"
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Prefer": (
        "`wait` or `wait=N`: answer when it has ended, or after N (1 to 60) seconds.",
        _TEXT,
    ),
    "Cancel-After": (
        "Cancel it if it has not ended by then: `30s`, `5m`, `1h30m`, at most `720h`.",
        {**_TEXT, "pattern": _DURATION},
    ),
    "Idempotency-Key": (
        "The same key and request again give the same prediction.",
        {**_TEXT, "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
    ),
}
_ANSWERS = {
    "201": "Accepted; with `Prefer: wait`: ended.",
    "202": "Accepted, and not ended while you waited.",
}
_ANSWER_HEADERS = {
    "Location": {"schema": {"type": "string", "format": "uri"}, "description": "Its URL."},
    "Preference-Applied": {"schema": _TEXT, "description": "`wait=N`, if that was asked for."},
}
_CHOSEN_ID = {
    "name": "prediction_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "description": "The same request again gives the same prediction.",
}


def add(schema: dict[str, Any]) -> None:
    """Put the routes and their schemas into the document that FastAPI generated."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Prediction": PREDICTION, "CreatePrediction": CREATE, "PredictionPage": _PAGE}
    paths = schema["paths"]
    paths.setdefault("/v1/predictions", {})["post"] = _operation("create_prediction", [])
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in ("owner", "name")
    ]
    path = paths.setdefault("/v1/models/{owner}/{name}/predictions", {})
    path["post"] = _operation("create_prediction_of_model", in_path)
    put = _operation("put_prediction", [_CHOSEN_ID])
    put["parameters"] = [p for p in put["parameters"] if p["name"] != "Idempotency-Key"]
    paths["/v1/predictions/{prediction_id}"]["put"] = put
    multipart = _operation("create_prediction_with_files", [])
    multipart["requestBody"]["content"] = {"multipart/form-data": {"schema": _FORM}}
    paths.setdefault("/v1/predictions/multipart", {})["post"] = multipart


def _operation(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    headers = [
        {"name": name, "in": "header", "description": text, "schema": taken}
        for name, (text, taken) in _HEADERS.items()
    ]
    prediction = {"application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}}}
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/CreatePrediction"}}}
    responses = {
        code: {"description": text, "content": prediction, "headers": dict(_ANSWER_HEADERS)}
        for code, text in _ANSWERS.items()
    }
    return {
        "tags": ["predictions"],
        "summary": "Create a prediction",
        "operationId": operation_id,
        "security": [{"HTTPBearer": []}],
        "parameters": [*parameters, *headers],
        "requestBody": {"required": True, "content": body},
        "responses": responses,
    }
