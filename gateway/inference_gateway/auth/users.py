"""Routes of administrators: accounts."""

from __future__ import annotations

from asyncio import to_thread
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from inference_gateway.auth import accounts, administration, schemas
from inference_gateway.auth.accounts import Principal
from inference_gateway.auth.administration import UserInfo
from inference_gateway.auth.dependencies import AppServices, CurrentUser, require_admin
from inference_gateway.errors import Conflict, Forbidden, NotFound, raises
from inference_gateway.http.addresses import client_of
from inference_gateway.http.strict_routes import StrictRoute

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=StrictRoute)


@raises(Forbidden)
async def _administrator(user: CurrentUser) -> Principal:
    require_admin(user, "see and change accounts")
    return user


Administrator = Annotated[Principal, Depends(_administrator)]
Username = Annotated[str, Path(max_length=254, pattern=schemas.NO_NUL)]


@router.post("", status_code=201)
@raises(Conflict)
async def create_user(
    body: schemas.NewUser, request: Request, _: Administrator, services: AppServices
) -> schemas.UserOut:
    """Create an account, also with a name that is reserved or has models already."""
    hashed = await services.passwords.hash(body.password, client_of(request.scope))
    made = await to_thread(
        accounts.create,
        services.engine,
        body.username,
        body.email.lower(),
        hashed,
        is_admin=body.is_admin,
    )
    info = (made.id, made.username, made.email, made.is_admin, made.created_at, made.disabled_at)
    return _out(UserInfo(*info))


@router.get("")
async def list_users(
    request: Request,
    _: Administrator,
    services: AppServices,
    cursor: Annotated[str, Query(max_length=254, pattern=schemas.NO_NUL)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> schemas.UserPage:
    """All accounts, by name."""
    found = await to_thread(administration.list_users, services.engine, cursor, limit + 1)
    page = found[:limit]
    following = None
    if len(found) > limit:
        base_url = services.base_url(request)
        following = f"{base_url}/v1/users?limit={limit}&cursor={page[-1].username}"
    return schemas.UserPage(next=following, results=[_out(user) for user in page])


@router.get("/{username}")
@raises(NotFound)
async def get_user(username: Username, _: Administrator, services: AppServices) -> schemas.UserOut:
    return _out(await to_thread(administration.get, services.engine, username))


@router.patch("/{username}")
@raises(NotFound, Conflict)
async def change_user(
    username: Username, body: schemas.UserChange, _: Administrator, services: AppServices
) -> schemas.UserOut:
    """Disable or enable an account, or change whether it is an administrator. Takes effect on every
    gateway within two seconds."""
    changed = await to_thread(
        administration.change,
        services.engine,
        username,
        is_admin=body.is_admin,
        disabled=body.disabled,
    )
    await services.authenticator.refresh()
    return _out(changed)


@router.delete("/{username}", status_code=204)
@raises(NotFound, Conflict)
async def delete_user(username: Username, _: Administrator, services: AppServices) -> Response:
    """Delete the account: its tokens end, its models are removed, its open predictions canceled.
    Its name cannot be used again."""
    await to_thread(administration.remove, services.engine, username)
    await services.authenticator.refresh()
    await to_thread(services.deleted_accounts.account_deleted)
    return Response(status_code=204)


def _out(user: UserInfo) -> schemas.UserOut:
    return schemas.UserOut(**asdict(user), disabled=user.disabled_at is not None)
