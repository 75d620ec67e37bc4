"""OpenAPI, with the routes that FastAPI does not know of."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from inference_gateway.predictions import openapi as predictions_openapi


def install(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            predictions_openapi.add(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
