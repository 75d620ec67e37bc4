"""Authenticates an Authorization header. On the hot path: a known header costs one lookup."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from sqlalchemy import Engine

from inference_gateway.auth import accounts, standing
from inference_gateway.auth.accounts import API_TOKEN_PREFIX, Principal
from inference_gateway.auth.jwt import AccessTokens, ExpiredToken, InvalidToken
from inference_gateway.auth.standing import Standing
from inference_gateway.errors import Unauthorized, Unavailable
from inference_gateway.postgres import db

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
"""Pause between two checks of whether callers are still valid."""
TRUSTED_SECONDS = 15.0
"""How long the last check counts while PostgreSQL does not answer: long enough for a restart, and
short enough for a revocation that this gateway cannot see."""
_MAX_CACHED = 10_000
_GONE = "this account is disabled or gone: ask an administrator"
_ENDED = "this access token was ended: get a new one from POST /v1/auth/token"
_REVOKED = "this API token was revoked: make one with POST /v1/auth/tokens"


class Authenticator:
    """Everything async belongs on one event loop.

    Args:
        engine: for new headers.
        own_engine: for the periodic checks, so that they never wait for a connection.
    """

    def __init__(self, engine: Engine, tokens: AccessTokens, own_engine: Engine) -> None:
        self._engine = engine
        self._own_engine = own_engine
        self._tokens = tokens
        self._known: dict[str, Principal] = {}
        """Callers by header; oldest first."""
        self._lookups: dict[str, asyncio.Future[Principal]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="standing")
        self._looking = asyncio.Lock()
        self._looked_at = time.monotonic()
        self._is_blind = False
        self._task: asyncio.Task[None] | None = None
        self.waiting: Callable[[], Iterable[Principal]] = tuple
        """Returns the callers with unfinished responses: they are checked too."""
        self.ended: Callable[[Principal], None] = lambda _: None
        """Called with each caller that is no longer valid."""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="standing")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def authenticate(self, authorization: str | None) -> Principal:
        """Raises Unauthorized, Unavailable."""
        if not authorization:
            raise Unauthorized(
                "no access token: send `Authorization: Bearer <token>`; "
                "POST /v1/auth/token gives one for a username and a password"
            )
        if self._is_blind:
            raise Unavailable(
                "PostgreSQL does not answer, so nobody knows which tokens are valid: try again",
                headers={"Retry-After": "2"},
            )
        known = self._known.get(authorization)
        if known is not None and known.until > time.time():
            return known
        scheme, _, token = authorization.partition(" ")
        # Replicate's older clients say Token.
        if scheme.lower() not in ("bearer", "token") or not token or not token.isascii():
            raise Unauthorized("malformed Authorization header: send `Bearer <token>`")
        return await self._look_up(authorization, token)

    def require(self, principal: Principal) -> None:
        """Raises Unauthorized if the caller is no longer valid."""
        if principal.is_ended:
            raise Unauthorized(_GONE)

    async def look(self) -> None:
        """Check all callers against the database; end those that are no longer valid.

        Raises:
            SQLAlchemyError
        """
        async with self._looking:
            asked = {*self._known.values(), *self.waiting()}
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, standing.read, self._own_engine, asked)
            self._looked_at = time.monotonic()
            if ended := {principal for principal in asked if not found.apply(principal)}:
                self._known = {h: p for h, p in self._known.items() if p not in ended}
                for principal in ended:
                    principal.is_ended = True
                    self.ended(principal)

    async def _run(self) -> None:
        looking: asyncio.Future[None] | None = None
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if looking is None or looking.done():
                looking = asyncio.ensure_future(self.refresh())
            # The check itself may hang for a long time.
            blind = time.monotonic() - self._looked_at > TRUSTED_SECONDS
            if blind != self._is_blind:
                log.warning("tokens are %s", "not believed" if blind else "believed again")
            self._is_blind = blind

    async def refresh(self) -> None:
        """Check now, if PostgreSQL answers: commits before this call then take effect here."""
        try:
            await self.look()
        except Exception as error:
            log.warning("which tokens have ended is not known: %s", db.describe(error))

    async def _look_up(self, authorization: str, token: str) -> Principal:
        """Concurrent requests with the same new token share one query."""
        lookup = self._lookups.get(authorization)
        if lookup is None:
            lookup = asyncio.ensure_future(self._find(authorization, token))
            self._lookups[authorization] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(authorization))
        return await asyncio.shield(lookup)

    async def _find(self, authorization: str, token: str) -> Principal:
        if token.startswith(API_TOKEN_PREFIX):
            principal = await asyncio.to_thread(self._api_token, token)
        else:
            claimed = self._access_token(token)
            principal = await asyncio.to_thread(self._confirmed, claimed)
        while len(self._known) >= _MAX_CACHED:
            del self._known[next(iter(self._known))]
        self._known[authorization] = principal
        return principal

    def _access_token(self, token: str) -> Principal:
        """The caller by the token's claims. Whether it is still valid is checked elsewhere."""
        try:
            claims = self._tokens.verify(token)
            user_id = str(UUID(claims.user_id))
        except ExpiredToken:
            raise Unauthorized(
                "the access token has expired: get a new one from POST /v1/auth/token"
            ) from None
        except (InvalidToken, ValueError):
            raise Unauthorized(
                "the access token is not valid here: get one from POST /v1/auth/token"
            ) from None
        return Principal(
            user_id,
            claims.username,
            is_admin=False,
            until=claims.expires_at,
            token_version=claims.token_version,
        )

    def _confirmed(self, principal: Principal) -> Principal:
        found = standing.read(self._engine, [principal])
        if principal.user_id not in found.accounts:
            raise Unauthorized(_GONE)
        return _checked(found, principal, _ENDED)

    def _api_token(self, token: str) -> Principal:
        principal = accounts.find_token_owner(self._engine, token)
        if principal is None:
            raise Unauthorized("no such API token: make one with POST /v1/auth/tokens")
        found = standing.read(self._engine, [principal])
        if principal.user_id not in found.accounts:
            raise Unauthorized(_GONE)
        return _checked(found, principal, _REVOKED)


def _checked(found: Standing, principal: Principal, refusal: str) -> Principal:
    if not found.apply(principal):
        raise Unauthorized(refusal)
    return principal
