"""Rate limits at the door: authenticated callers by token and account, others by address.

The address is used only for requests without a valid token: many users may share one address, as
behind an ingress that is not configured as a trusted proxy.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

from inference_gateway.errors import Unauthorized
from inference_gateway.http.addresses import client_of, site
from inference_gateway.rates.gcra import Rate
from inference_gateway.rates.limiter import Charge, Limiter

if TYPE_CHECKING:
    from starlette.types import Scope

    from inference_gateway.auth.accounts import Principal
    from inference_gateway.auth.authenticator import Authenticator
    from inference_gateway.settings import GatewaySettings

_MAX_KNOWN = 10_000
_HOUR = 3600


class _Caller(NamedTuple):
    user_id: str
    is_admin: bool
    charges: list[Charge]
    """The limits that a request counts against."""


class Admission:
    """For one event loop. A limit of 0 means no limit."""

    def __init__(self, settings: GatewaySettings, limiter: Limiter) -> None:
        self._limiter = limiter
        burst = settings.rate_burst_seconds
        self._token = _rate("token", "RATE_PER_TOKEN", "token", settings.rate_per_token, burst)
        self._user = _rate("user", "RATE_PER_USER", "account", settings.rate_per_user, burst)
        self._address = _rate(
            "address", "RATE_PER_ADDRESS", "address", settings.rate_per_address, burst
        )
        self._registrations = [
            _hourly("REGISTRATIONS_PER_ADDRESS", "from one address", settings),
            _hourly("REGISTRATIONS_PER_HOUR", "in all", settings),
        ]
        self._known: dict[bytes, _Caller] = {}
        """Callers by valid Authorization header; oldest first."""

    def enter(self, authorization: bytes | None, address: str) -> None:
        """Count a request. Raises TooManyRequests.

        A request without token, or with one that was not verified before, counts by its address:
        to verify it costs a database query.
        """
        caller = self._known.get(authorization) if authorization else None
        if caller is not None:
            self._limiter.take(caller.charges)
        elif self._address is not None:
            self._limiter.take([Charge.of(self._address, site(address))])

    def who_of(self, scope: Scope) -> str:
        """The account of the request; its address as long as the account is not known."""
        given = (value for name, value in scope["headers"] if name == b"authorization")
        caller = self._known.get(next(given, b""))
        return site(client_of(scope)) if caller is None else caller.user_id

    async def authenticate(
        self, authenticator: Authenticator, authorization: str | None
    ) -> Principal:
        """Authenticate the caller. Raises Unauthorized, Unavailable."""
        key = (authorization or "").encode("latin-1")
        try:
            user = await authenticator.authenticate(authorization)
        except Unauthorized:
            self._known.pop(key, None)
            raise
        known = self._known.get(key)
        if known is None or known.is_admin is not user.is_admin:
            self._remember(key, user)
        return user

    async def registration(self, address: str) -> None:
        """Raises TooManyRequests."""
        by_address, in_all = self._registrations
        charges = [Charge.of(by_address, site(address))] if by_address is not None else []
        if in_all is not None:
            charges.append(Charge.of(in_all, "all"))
        await self._limiter.take_exactly(charges)

    def _remember(self, authorization: bytes, user: Principal) -> None:
        # Hashed: Redis must not hold usable tokens.
        token = hashlib.sha256(authorization).hexdigest()[:32]
        pairs = ((self._token, token), (self._user, user.user_id))
        charges = [Charge.of(rate, who) for rate, who in pairs if rate is not None]
        self._known.pop(authorization, None)
        while len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[authorization] = _Caller(
            user.user_id, user.is_admin, [] if user.is_admin else charges
        )


def _rate(name: str, setting: str, whose: str, per_second: float, burst: float) -> Rate | None:
    if not per_second:
        return None
    most = max(1, math.ceil(per_second * burst))
    message = f"One {whose} may make {per_second:g} requests a second ({setting}), {most} at once"
    return Rate(name, per_second, most, message)


def _hourly(setting: str, where: str, settings: GatewaySettings) -> Rate | None:
    per_hour: int = getattr(settings, setting.lower())
    if not per_hour:
        return None
    message = f"{per_hour} accounts may be registered an hour {where} ({setting})"
    return Rate(setting.lower().replace("_", "-"), per_hour / _HOUR, per_hour, message)
