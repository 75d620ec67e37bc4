"""Every answer of a gateway under test is compared with the OpenAPI document."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from jsonschema import Draft202012Validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_gateway.api.app import front

_METHODS = ("get", "put", "post", "patch", "delete")


class Documented:
    """The app behind `front`; `faults` are the answers that the document does not have."""

    def __init__(self, app: FastAPI) -> None:
        self._app: ASGIApp = front(app)
        self._document = app.openapi()
        self.faults: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def heard(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                self._check(scope, start, bytes(body))

        await self._app(scope, receive, heard)

    def _check(self, scope: Scope, start: Message, body: bytes) -> None:
        operation = self._operation(scope["method"].lower(), scope["path"])
        if operation is None:
            return
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]
        }
        for fault in self._faults(operation, start["status"], headers, body):
            self.faults.append(f"{scope['method']} {scope['path']} {start['status']}: {fault}")

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for template in _templates(tuple(self._document["paths"])):
            if template[1].fullmatch(path):
                found: dict[str, Any] | None = self._document["paths"][template[0]].get(method)
                return found
        return None

    def _faults(
        self, operation: dict[str, Any], status: int, headers: dict[str, str], body: bytes
    ) -> list[str]:
        answer = operation["responses"].get(str(status))
        if answer is None:
            return ["this status is not documented"]
        if "$ref" in answer:
            answer = self._document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        faults = []
        content = answer.get("content")
        media_type = headers.get("content-type", "").partition(";")[0]
        if content is None:
            faults += ["a body that is not documented"] if body else []
        elif media_type not in content:
            faults.append(f"{media_type!r} is not documented")
        elif media_type.endswith("json"):
            schema = {**content[media_type]["schema"], "components": self._document["components"]}
            errors = Draft202012Validator(schema).iter_errors(json.loads(body))
            faults += [f"{error.json_path}: {error.message[:200]}" for error in errors]
        documented = {name.lower() for name in answer.get("headers", {})}
        special = {"location", "preference-applied", "retry-after", "ratelimit", "ratelimit-policy"}
        special |= {"www-authenticate", "x-request-id"}
        faults += [f"header {name} is not documented" for name in special & {*headers} - documented]
        return faults


@lru_cache
def _templates(paths: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    """Those without parameters first."""
    ordered = sorted(paths, key=lambda path: "{" in path)
    return [(path, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))) for path in ordered]
