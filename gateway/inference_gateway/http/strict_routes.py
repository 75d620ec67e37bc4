"""Routes that refuse duplicate keys, which JSON parsers accept."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from inference_contract.field_errors import FieldError
from inference_gateway.errors import Invalid
from inference_gateway.http import duplicate_keys


class StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_Strict(request.scope, request.receive))

        return strict


class _Strict(Request):
    async def json(self) -> Any:
        """Raises Invalid."""
        value = await super().json()
        check_keys(await self.body(), value)
        return value


def check_keys(content: bytes, value: object) -> None:
    """
    Args:
        content: the JSON text.
        value: the parsed value.

    Raises:
        Invalid: if a key occurs twice.
    """
    try:
        duplicate_keys.check(content, duplicate_keys.count(value))
    except duplicate_keys.DuplicateKey as error:
        field, message = f"body.{error}", "is there twice"
        errors: list[FieldError] = [{"field": field, "message": message}]
        raise Invalid(f"{field} {message}", errors=errors) from error
