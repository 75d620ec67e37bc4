"""The OpenAPI document: FastAPI's, plus routes that FastAPI does not know, plus error responses.

Endpoints and dependencies declare their errors with `errors.raises`; errors of the server and the
middleware are declared here. The responses are derived from the error classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import BaseRoute, Route

from inference_gateway import errors
from inference_gateway.auth.dependencies import optional_user
from inference_gateway.errors import PROBLEM_JSON, GatewayError, Problem
from inference_gateway.predictions import openapi as predictions_openapi

_EVERYWHERE = (
    errors.BadRequest,
    errors.SlowRequest,
    errors.TooLarge,
    errors.LongUrl,
    errors.TooManyRequests,
    errors.LargeHeaders,
    GatewayError,
    errors.Unavailable,
)
"""Errors of the server and the middleware, possible for every request."""
_ANSWERS: tuple[type[GatewayError], ...] = (
    *_EVERYWHERE,
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.Conflict,
    errors.Invalid,
)
_NAMES = {error.status: error.__name__ for error in _ANSWERS} | {500: "InternalError"}
_PROBLEM = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_SCHEMAS = "#/components/schemas/{model}"
_TEXT = {"type": "string"}
_SECONDS = {"type": "integer", "minimum": 0}
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"schema": _TEXT, "description": "The caller's, or ours: the log has it."},
    "Retry-After": {"schema": _SECONDS, "description": "Seconds."},
    "RateLimit": {"schema": _TEXT, "description": "What is left, and when there is more."},
    "RateLimit-Policy": {"schema": _TEXT, "description": "The rate."},
    "WWW-Authenticate": {"schema": _TEXT, "description": "`Bearer`."},
}
_OF_STATUS = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def install(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """
    Args:
        routes: the documented routes.
    """
    generate = app.openapi
    documented = [route for route in routes if isinstance(route, Route | APIRoute)]

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            predictions_openapi.add(schema)
            _add_answers(schema, documented)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _add_answers(schema: dict[str, Any], routes: Iterable[Route | APIRoute]) -> None:
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's; ours are problems.
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = TypeAdapter(Problem).json_schema(ref_template=_SCHEMAS)
    _share(components["schemas"]["Problem"], components)
    components["headers"] = _HEADERS
    components["responses"] = {_NAMES[error.status]: _answer(error) for error in _ANSWERS}
    for route in routes:
        for method in (route.methods or set()) - {"HEAD"}:
            operation = schema["paths"][route.path_format][method.lower()]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                _share(content["schema"], components)
            if any(dependant.call is optional_user for dependant in _dependants(route)):
                operation["security"].append({})
            takes = "422" in operation["responses"]
            operation["responses"] |= {
                str(status): {"$ref": f"#/components/responses/{_NAMES[status]}"}
                for status in sorted(_statuses(route, takes=takes))
                if str(status) not in operation["responses"] or status == 422
            }
            for status, answer in operation["responses"].items():
                if "$ref" not in answer:
                    answer.setdefault("headers", {}).update(_refer("X-Request-Id"))
                    if int(status) >= 400:
                        answer["content"] |= _PROBLEM


def _share(schema: dict[str, Any], components: dict[str, Any]) -> None:
    """Move a pydantic schema's own `$defs` to the document's components."""
    components["schemas"] |= schema.pop("$defs", {})


def _statuses(route: Route | APIRoute, *, takes: bool) -> set[int]:
    """
    Args:
        takes: whether the route has parameters or a body that FastAPI validates.
    """
    found: set[type[GatewayError]] = {*_EVERYWHERE, *getattr(route.endpoint, "raises", ())}
    for dependant in _dependants(route):
        found |= {*getattr(dependant.call, "raises", ())}
    if takes:
        found.add(errors.Invalid)
    if route.path.startswith("/health"):
        found.remove(errors.TooManyRequests)
    return {error.status for error in found}


def _dependants(route: Route | APIRoute) -> Iterator[Dependant]:
    """The endpoint of a FastAPI route, and all its dependencies."""
    if isinstance(route, APIRoute):
        yield from _walk(route.dependant)


def _walk(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _walk(inner)


def _answer(error: type[GatewayError]) -> dict[str, Any]:
    return {
        "description": error.title,
        "headers": _refer("X-Request-Id", *_OF_STATUS.get(error.status, ())),
        "content": _PROBLEM,
    }


def _refer(*headers: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
