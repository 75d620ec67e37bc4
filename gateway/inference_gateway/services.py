"""The services of a running gateway: created by the app's lifespan, at `app.state.services`."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from redis.asyncio import Redis as AsyncRedis
from sqlalchemy import Engine
from starlette.requests import Request

from inference_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from inference_gateway.api.admission import Admission
    from inference_gateway.api.health import Health
    from inference_gateway.auth.accounts import Principal
    from inference_gateway.auth.authenticator import Authenticator
    from inference_gateway.auth.jwt import AccessTokens
    from inference_gateway.auth.passwords import Passwords
    from inference_gateway.auth.throttle import LoginThrottle
    from inference_gateway.cleanup.deleted_accounts import DeletedAccounts
    from inference_gateway.cleanup.deleted_models import DeletedModels
    from inference_gateway.models.catalog import ModelCatalog
    from inference_gateway.models.quota import ModelQuotas
    from inference_gateway.models.runs import RunCounts
    from inference_gateway.predictions.service import PredictionService


@dataclass(frozen=True)
class Services:
    settings: GatewaySettings
    engine: Engine
    redis: redis.Redis
    """Blocking, for threads. Returns bytes."""
    redis_async: AsyncRedis
    catalog: ModelCatalog
    model_quotas: ModelQuotas
    runs: RunCounts
    deleted_models: DeletedModels
    deleted_accounts: DeletedAccounts
    authenticator: Authenticator
    admission: Admission
    predictions: PredictionService
    tokens: AccessTokens
    passwords: Passwords
    throttle: LoginThrottle
    health: Health

    def authenticate(self, authorization: str | None) -> Awaitable[Principal]:
        """Authenticate the caller. Raises Unauthorized, Unavailable, when awaited."""
        return self.admission.authenticate(self.authenticator, authorization)

    def base_url(self, request: Request) -> str:
        """The URL of the API for this caller, without a trailing slash."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")
