"""Routes of accounts: register, log in, API tokens."""

from __future__ import annotations

from asyncio import to_thread
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response

from inference_contract.field_errors import FieldError
from inference_gateway.auth import accounts, schemas
from inference_gateway.auth.dependencies import AppServices, CurrentUser
from inference_gateway.auth.throttle import COOKIE, COOKIE_SECONDS
from inference_gateway.errors import Conflict, Forbidden, NotFound, Unauthorized, raises
from inference_gateway.http.addresses import client_of
from inference_gateway.http.strict_routes import StrictRoute

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.post("/auth/register", status_code=201, tags=["account"])
@raises(Forbidden, Conflict)
async def register(
    request: Request, body: schemas.Registration, services: AppServices
) -> schemas.Registered:
    if not services.settings.allow_registration:
        raise Forbidden("registration is closed here: ask an administrator for an account")
    address = client_of(request.scope)
    await services.admission.registration(address)
    hashed = await services.passwords.hash(body.password, address)
    account = await to_thread(
        accounts.create,
        services.engine,
        body.username,
        body.email.lower(),
        hashed,
        check=lambda: _check_name(services, body.username),
    )
    await services.throttle.registered(account.username, address)
    return schemas.Registered(
        id=account.id, username=account.username, email=account.email, created_at=account.created_at
    )


def _check_name(services: AppServices, username: str) -> None:
    """Refuse a name with existing models: only an administrator may assign those to an account.
    Raises Conflict, Unavailable."""
    if services.catalog.has_place(username):
        message = "has models already: an administrator may make this account (POST /v1/users)"
        errors: list[FieldError] = [{"field": "body.username", "message": message}]
        raise Conflict(f"the name {username} {message}", errors=errors)


@router.post("/auth/token", tags=["account"])
@raises(Unauthorized, Forbidden)
async def log_in(
    request: Request,
    response: Response,
    services: AppServices,
    username: Annotated[str, Form(min_length=1, max_length=254, pattern=schemas.NO_NUL)],
    password: Annotated[str, Form(min_length=1, max_length=1024)],
) -> schemas.AccessToken:
    address, cookie = client_of(request.scope), request.cookies.get(COOKIE)
    attempt = await services.throttle.attempt(username, address, cookie)
    account = await to_thread(accounts.find, services.engine, username)
    hashed = account.password_hash if account else None
    if not await services.passwords.verify(password, hashed, address) or account is None:
        raise Unauthorized("wrong username or password")
    if account.disabled_at is not None:
        raise Forbidden("this account is disabled: ask an administrator")
    await services.throttle.succeeded(attempt)
    response.set_cookie(
        COOKIE,
        services.throttle.cookie(attempt),
        max_age=COOKIE_SECONDS,
        path=request.url.path,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    token = services.tokens.issue(str(account.id), account.username, account.token_version)
    return schemas.AccessToken(access_token=token, expires_in=services.tokens.lifetime)


@router.post("/auth/logout", status_code=204, tags=["account"])
async def log_out(user: CurrentUser, services: AppServices) -> Response:
    """End all access tokens of the account, wherever they are used. API tokens stay."""
    await to_thread(accounts.end_access_tokens, services.engine, user.user_id)
    await services.authenticator.refresh()
    return Response(status_code=204)


@router.post("/auth/password", status_code=204, tags=["account"])
@raises(Forbidden)
async def change_password(
    body: schemas.NewPassword, request: Request, user: CurrentUser, services: AppServices
) -> Response:
    """Set another password, and end all access tokens. API tokens stay: revoke them one by one."""
    address = client_of(request.scope)
    attempt = await services.throttle.attempt(user.username, address, request.cookies.get(COOKIE))
    account = await to_thread(accounts.find, services.engine, user.username)
    hashed = account.password_hash if account else None
    if not await services.passwords.verify(body.current, hashed, address):
        raise Forbidden("the current password is another one")
    await services.throttle.succeeded(attempt)
    new = await services.passwords.hash(body.new, address)
    await to_thread(accounts.end_access_tokens, services.engine, user.user_id, new)
    await services.authenticator.refresh()
    return Response(status_code=204)


@router.get("/account", tags=["account"])
async def account(user: CurrentUser) -> schemas.AccountOut:
    return schemas.AccountOut(username=user.username, name=user.username)


@router.post("/auth/tokens", status_code=201, tags=["account"])
@raises(Forbidden)
async def create_token(
    body: schemas.NewApiToken, user: CurrentUser, services: AppServices
) -> schemas.ApiTokenCreated:
    """Make a long-lived token. It is shown this once."""
    most = 0 if user.is_admin else services.settings.quota_api_tokens
    made, token = await to_thread(
        accounts.create_api_token, services.engine, user.user_id, body.name, most
    )
    return schemas.ApiTokenCreated(**asdict(made), token=token)


@router.get("/auth/tokens", tags=["account"])
async def list_tokens(user: CurrentUser, services: AppServices) -> list[schemas.ApiTokenOut]:
    found = await to_thread(accounts.list_api_tokens, services.engine, user.user_id)
    return [schemas.ApiTokenOut(**asdict(token)) for token in found]


@router.delete("/auth/tokens/{token_id}", status_code=204, tags=["account"])
@raises(NotFound)
async def revoke_token(token_id: UUID, user: CurrentUser, services: AppServices) -> Response:
    if not await to_thread(accounts.revoke_api_token, services.engine, user.user_id, token_id):
        raise NotFound(f"you have no API token {token_id}")
    await services.authenticator.refresh()
    return Response(status_code=204)


@router.get("/webhooks/default/secret", tags=["webhooks"])
async def webhook_secret(user: CurrentUser, services: AppServices) -> schemas.WebhookSecret:
    """The key that signs your webhooks (Standard Webhooks)."""
    key = await to_thread(accounts.webhook_secret, services.engine, user.user_id)
    if key is None:
        raise Unauthorized("this account is gone")
    return schemas.WebhookSecret(key=key)
