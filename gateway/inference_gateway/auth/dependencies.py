"""FastAPI dependencies that authenticate the caller."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import Forbidden, Unauthorized, raises
from inference_gateway.services import Services

# Only declares the scheme in OpenAPI (for the Authorize button); the check is our own.
_SCHEME = HTTPBearer(auto_error=False, description="An access token or an API token.")


async def _services(request: Request) -> Services:
    # Not a plain function: FastAPI would call that on a thread.
    services: Services = request.app.state.services
    return services


AppServices = Annotated[Services, Depends(_services)]


@raises(Unauthorized)
async def _current_user(
    request: Request, services: AppServices, _: Annotated[object, Depends(_SCHEME)]
) -> Principal:
    return await services.authenticate(request.headers.get("authorization"))


@raises(Unauthorized)
async def optional_user(
    request: Request, services: AppServices, _: Annotated[object, Depends(_SCHEME)]
) -> Principal | None:
    """The caller, if a token was sent. A wrong token is refused even where none is needed."""
    header = request.headers.get("authorization")
    return await services.authenticate(header) if header else None


CurrentUser = Annotated[Principal, Depends(_current_user)]
OptionalUser = Annotated[Principal | None, Depends(optional_user)]


def require_admin(principal: Principal, what: str) -> None:
    """Raises Forbidden."""
    if not principal.is_admin:
        raise Forbidden(f"only an administrator may {what}")
