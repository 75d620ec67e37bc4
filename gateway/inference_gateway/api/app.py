"""The REST API as an ASGI application."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import redis
import redis.asyncio
from fastapi import FastAPI, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from inference_gateway.api import error_handlers, health, openapi_document
from inference_gateway.api.admission import Admission
from inference_gateway.api.health import Health
from inference_gateway.api.middleware import Middleware
from inference_gateway.auth import router as auth
from inference_gateway.auth import users
from inference_gateway.auth.authenticator import Authenticator
from inference_gateway.auth.jwt import AccessTokens
from inference_gateway.auth.passwords import Passwords
from inference_gateway.auth.throttle import LoginThrottle
from inference_gateway.cleanup.deleted_accounts import DeletedAccounts
from inference_gateway.cleanup.deleted_models import DeletedModels
from inference_gateway.http.addresses import Proxies, parse_networks
from inference_gateway.http.body_limit import InFlight
from inference_gateway.models import router as models
from inference_gateway.models.catalog import ModelCatalog
from inference_gateway.models.files.store import YamlModelStore
from inference_gateway.models.quota import ModelQuotas
from inference_gateway.models.runs import RunCounts
from inference_gateway.models.store import ModelStore
from inference_gateway.postgres import db
from inference_gateway.predictions import router as predictions
from inference_gateway.predictions.creating.endpoint import CreatePrediction
from inference_gateway.predictions.creating.multipart import NAME, MultipartPrediction
from inference_gateway.predictions.service import PredictionService
from inference_gateway.rates.limiter import Limiter
from inference_gateway.redis.clients import asynchronous, blocking
from inference_gateway.services import Services
from inference_gateway.settings import GatewaySettings
from inference_gateway.startup import ConfigurationError

VERSION = version("inference-server")
_PREDICTIONS = "/v1/predictions"


def create_app(settings: GatewaySettings) -> FastAPI:
    """The application. It connects to nothing before its start, and starts even if PostgreSQL and
    Redis do not answer.

    Raises:
        ConfigurationError: if the settings name a cluster or folder that does not exist.
    """
    store = model_store(settings)
    limiter = Limiter()
    admission = Admission(settings, limiter)
    proxies = Proxies(parse_networks(settings.trusted_proxies))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, store, limiter, admission, in_flight) as services:
            app.state.services = services
            yield

    app: FastAPI = FastAPIOffline(
        title="Inference Server",
        version=VERSION,
        description="Models, predictions, webhooks. Log in at `POST /v1/auth/token`, "
        "then give the token to *Authorize*.",
        lifespan=lifespan,
    )
    in_flight = InFlight(settings.max_bytes_in_flight)

    def edge(inner: ASGIApp) -> Middleware:
        return Middleware(inner, settings.max_body_bytes, in_flight, proxies, admission)

    app.add_middleware(edge)
    error_handlers.install(app)
    # An ASGI endpoint instead of a FastAPI route: a third of the cost, on the hot path.
    create = CreatePrediction()
    app.router.routes.insert(0, Route(_PREDICTIONS, create, methods=["POST"]))
    multipart = MultipartPrediction(create, settings.max_input_bytes)
    app.router.routes.insert(1, Route(f"{_PREDICTIONS}/{NAME}", multipart, methods=["POST"]))
    app.state.create = edge(create)
    documented = app.router.routes[:2]
    for part in (predictions.router, models.router, auth.router, users.router, health.router):
        app.include_router(part)
        documented += part.routes
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.add_api_route("/", _index, include_in_schema=False)
    openapi_document.install(app, documented)
    return app


def prepare(app: FastAPI) -> None:
    """Build routes and the OpenAPI document, which FastAPI would build during the first requests.

    Not part of `create_app`, as it takes a fifth of a second.
    """
    nowhere: Scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(dict(nowhere))
    app.openapi()


def front(app: FastAPI) -> ASGIApp:
    """The app, with POST of predictions routed past the framework's layers: they cost 70 µs."""

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        is_http = scope["type"] == "http"
        if is_http and scope["path"] == _PREDICTIONS and scope["method"] == "POST":
            scope["app"] = app
            await app.state.create(scope, receive, send)
        else:
            await app(scope, receive, send)

    return choose


def model_store(settings: GatewaySettings) -> ModelStore:
    """Raises ConfigurationError if the settings name none, or a cluster that cannot be read."""
    if settings.inference_home is not None:
        return YamlModelStore(settings.inference_home)
    if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ConfigurationError(
            "INFERENCE_HOME is not set, and this is no pod of a Kubernetes cluster: "
            "name the folder of the model documents, or a cluster by KUBECONFIG"
        )
    # Imported here: in embedded mode the client would waste 10 MiB.
    from inference_gateway.models.kubernetes import api
    from inference_gateway.models.kubernetes import store as kubernetes_store

    try:
        return kubernetes_store.open_store(settings)
    except api.KubernetesError as error:
        where = "KUBECONFIG" if settings.kubeconfig else "the pod's service account"
        raise ConfigurationError(f"{where} leads to no Kubernetes cluster: {error}") from error


@asynccontextmanager
async def running(
    settings: GatewaySettings,
    store: ModelStore,
    limiter: Limiter,
    admission: Admission,
    in_flight: InFlight,
) -> AsyncIterator[Services]:
    """Start all services of a gateway, and stop them in the reverse order."""
    engine = db.engine(settings)
    standing_engine = db.engine(settings, pool_size=1)
    redis_sync, redis_async = redis_clients(settings)
    catalog = ModelCatalog(store)
    tokens = AccessTokens(
        settings.secret_key.get_secret_value(), settings.access_token_expire_minutes
    )
    authenticator = Authenticator(engine, tokens, standing_engine)
    passwords = Passwords()
    deleted_models = DeletedModels(engine, redis_sync, catalog)
    services = Services(
        settings=settings,
        engine=engine,
        redis=redis_sync,
        redis_async=redis_async,
        catalog=catalog,
        model_quotas=ModelQuotas(settings, catalog),
        runs=RunCounts(engine),
        deleted_models=deleted_models,
        deleted_accounts=DeletedAccounts(engine, catalog, deleted_models),
        authenticator=authenticator,
        admission=admission,
        predictions=PredictionService(
            settings, engine, redis_sync, redis_async, catalog, authenticator, in_flight
        ),
        tokens=tokens,
        passwords=passwords,
        throttle=LoginThrottle(redis_async, limiter, settings.secret_key.get_secret_value()),
        health=Health(engine, redis_async, store.dependencies),
    )
    await authenticator.start()
    limiter.start(redis_async)
    await catalog.start()
    await services.predictions.start()
    await services.deleted_models.start()
    await services.deleted_accounts.start()
    try:
        yield services
    finally:
        await services.deleted_accounts.stop()
        await services.deleted_models.stop()
        await services.predictions.stop()
        await catalog.stop()
        await limiter.stop()
        await authenticator.stop()
        passwords.close()
        await redis_async.aclose()
        redis_sync.close()
        standing_engine.dispose()
        engine.dispose()


def redis_clients(settings: GatewaySettings) -> tuple[redis.Redis, redis.asyncio.Redis]:
    """A blocking and an asynchronous client; both return bytes and have timeouts."""
    options: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 2}
    options |= settings.redis_credentials
    return (
        blocking(settings.redis_dsn, **options),
        asynchronous(settings.redis_dsn, **options),
    )


async def _metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _index() -> dict[str, str]:
    return {"name": "Inference Server", "version": VERSION, "docs": "/docs", "health": "/health"}
