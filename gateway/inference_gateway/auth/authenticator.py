"""From an Authorization header to the caller. On the hot path: a known header costs one lookup."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import Engine

from inference_gateway.auth import accounts
from inference_gateway.auth.accounts import API_TOKEN_PREFIX, Principal, TokenOwner
from inference_gateway.auth.jwt import AccessTokens, ExpiredToken, InvalidToken
from inference_gateway.errors import Unauthorized

_API_TOKEN_SECONDS = 30.0
"""How long a token that another gateway has revoked may still work here."""
_MAX_CACHED = 10_000


class Authenticator:
    def __init__(self, engine: Engine, tokens: AccessTokens) -> None:
        self._engine = engine
        self._tokens = tokens
        self._known: dict[str, tuple[Principal, float]] = {}
        """Header → caller and Unix time until which this holds; oldest first."""
        self._lookups: dict[str, asyncio.Future[TokenOwner | None]] = {}

    async def authenticate(self, authorization: str | None) -> Principal:
        """Raises Unauthorized, Unavailable."""
        if not authorization:
            raise Unauthorized(
                "no access token: send `Authorization: Bearer <token>`; "
                "POST /v1/auth/token gives one for a username and a password"
            )
        known = self._known.get(authorization)
        if known is not None and known[1] > time.time():
            return known[0]
        scheme, _, token = authorization.partition(" ")
        # Replicate's older clients say Token.
        if scheme.lower() not in ("bearer", "token") or not token or not token.isascii():
            raise Unauthorized("malformed Authorization header: send `Bearer <token>`")
        if token.startswith(API_TOKEN_PREFIX):
            principal, until = await self._api_token(token), time.time() + _API_TOKEN_SECONDS
        else:
            principal, until = self._access_token(token)
        self._remember(authorization, principal, until)
        return principal

    def forget_api_tokens(self) -> None:
        """One was revoked here: it must not work any longer."""
        marker = f" {API_TOKEN_PREFIX}"
        for header in [header for header in self._known if marker in header]:
            del self._known[header]

    def _access_token(self, token: str) -> tuple[Principal, float]:
        try:
            claims = self._tokens.verify(token)
        except ExpiredToken:
            raise Unauthorized(
                "the access token has expired: get a new one from POST /v1/auth/token"
            ) from None
        except InvalidToken:
            raise Unauthorized(
                "the access token is not valid here: get one from POST /v1/auth/token"
            ) from None
        return Principal(claims.user_id, claims.username, claims.is_admin), claims.expires_at

    async def _api_token(self, token: str) -> Principal:
        owner = await self._look_up(token)
        if owner is None:
            raise Unauthorized("no such API token: make one with POST /v1/auth/tokens")
        if owner.is_revoked:
            raise Unauthorized("this API token was revoked: make one with POST /v1/auth/tokens")
        return owner.principal

    async def _look_up(self, token: str) -> TokenOwner | None:
        """Many requests that come with the same token ask the database once."""
        lookup = self._lookups.get(token)
        if lookup is None:
            lookup = asyncio.ensure_future(
                asyncio.to_thread(accounts.find_token_owner, self._engine, token)
            )
            self._lookups[token] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(token))
        return await asyncio.shield(lookup)

    def _remember(self, authorization: str, principal: Principal, until: float) -> None:
        self._known.pop(authorization, None)
        while len(self._known) >= _MAX_CACHED:
            del self._known[next(iter(self._known))]
        self._known[authorization] = (principal, until)
