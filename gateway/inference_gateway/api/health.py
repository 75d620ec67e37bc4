"""Health of this gateway: overall, and of each dependency."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from typing_extensions import TypedDict

from inference_contract import queues
from inference_gateway import migrations
from inference_gateway.background import progress
from inference_gateway.health_state import Dependency, HealthState
from inference_gateway.postgres import db
from inference_gateway.redis.clients import NotPrimary

log = logging.getLogger(__name__)

_HOLDS_SECONDS = 0.5
"""How long a report is cached: the endpoint is public and must not load the dependencies."""
_TIMEOUT_SECONDS = 3.0
_WRITE_KEY = "inference:health"
_IS_REPLICA = (
    "its address leads to a replica: predictions are accepted and wait until it leads to the "
    "primary"
)


class DependencyOut(TypedDict):
    status: HealthState
    message: str


class ReportOut(TypedDict):
    status: HealthState
    dependencies: dict[str, DependencyOut]


class Live(TypedDict):
    status: HealthState


_UNREADY: dict[int | str, dict[str, Any]] = {
    503: {"model": ReportOut, "description": "Requests cannot be served."}
}


@dataclass(frozen=True)
class Report:
    dependencies: dict[str, Dependency]

    @property
    def status(self) -> HealthState:
        states = [dependency.status for dependency in self.dependencies.values()]
        return next(
            (s for s in (HealthState.UNAVAILABLE, HealthState.DEGRADED) if s in states),
            HealthState.OK,
        )

    @property
    def is_ready(self) -> bool:
        return self.status is not HealthState.UNAVAILABLE

    def body(self) -> ReportOut:
        dependencies: dict[str, DependencyOut] = {
            name: {"status": dependency.status, "message": dependency.message}
            for name, dependency in self.dependencies.items()
        }
        return {"status": self.status, "dependencies": dependencies}


def schema_state(revision: str | None) -> Dependency:
    """The state by schema revision. Older: this code would fail. Newer: an upgrade is in progress,
    and this code still works."""
    wanted = migrations.HEAD
    if revision == wanted:
        return Dependency(HealthState.OK, f"the schema is at revision {wanted}")
    if revision is not None and len(revision) == len(wanted) and revision > wanted:
        return Dependency(
            HealthState.DEGRADED,
            f"the schema is at revision {revision}, of a newer version than this ({wanted})",
        )
    return Dependency(
        HealthState.UNAVAILABLE,
        f"the schema is at revision {revision or 'none'}, wanted is {wanted}: "
        "run `alembic upgrade head`",
    )


class Health:
    def __init__(
        self,
        engine: Engine,
        client: redis.asyncio.Redis,
        others: Callable[[], Mapping[str, Dependency]],
    ) -> None:
        self._engine = engine
        self._redis = client
        self._others = others
        self._lock = asyncio.Lock()
        self._last: tuple[float, Report] | None = None

    async def report(self) -> Report:
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _HOLDS_SECONDS:
                (database, schema), (redis_state, dispatch) = await asyncio.gather(
                    self._database(), self._redis_state()
                )
                own = {"postgresql": database, "migrations": schema, "redis": redis_state}
                own["dispatch"] = dispatch
                own["operator"] = await self._operator_state()
                self._last = (time.monotonic(), Report({**own, **self._others()}))
            return self._last[1]

    async def _database(self) -> tuple[Dependency, Dependency]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                revision = await asyncio.to_thread(_revision, self._engine)
        except (SQLAlchemyError, TimeoutError) as error:
            # The reason names hosts and users, so it goes to the log only.
            log.warning("PostgreSQL does not answer: %s", db.describe(error))
            away = Dependency(HealthState.UNAVAILABLE, "PostgreSQL does not answer")
            return away, Dependency(HealthState.UNAVAILABLE, "unknown while PostgreSQL is away")
        return Dependency(HealthState.OK, "answers"), schema_state(revision)

    async def _redis_state(self) -> tuple[Dependency, Dependency]:
        """The states of Redis and of dispatch. Redis is OK only if it accepts writes."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                written, scores, now = await self._ask()
        except NotPrimary as error:
            log.warning("Redis takes no writes: %s", error)
            return Dependency(HealthState.DEGRADED, _IS_REPLICA), _unknown("is not the primary")
        except (RedisError, TimeoutError, OSError) as error:
            log.warning("Redis does not answer: %s", error)
            away = "Redis does not answer: predictions are accepted and wait until it does"
            return Dependency(HealthState.DEGRADED, away), _unknown("does not answer")
        if isinstance(written, RedisError):
            log.warning("Redis takes no writes: %s", written)
            reason = f"writes are refused ({type(written).__name__})"
            message = f"{reason}: predictions are accepted and wait until Redis takes them"
            return Dependency(HealthState.DEGRADED, message), _dispatch(scores, now, reason)
        return Dependency(HealthState.OK, "answers"), _dispatch(scores, now)

    async def _ask(self) -> list[Any]:
        """Redis' replies: to a write, the progress of dispatch's loops, the time."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(_WRITE_KEY, "1", ex=60)
            pipe.zrange(progress.KEY, 0, -1, withscores=True)
            pipe.time()
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies[1:]:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    async def _operator_state(self) -> Dependency:
        """The operator's state, by the key that it writes at every reading of the load."""
        sign: Awaitable[Any] = self._redis.exists(queues.OPERATOR)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                is_there = await sign
        except (RedisError, TimeoutError, OSError):
            return Dependency(HealthState.DEGRADED, "unknown while Redis is away")
        if is_there:
            return Dependency(HealthState.OK, "acts")
        return Dependency(
            HealthState.DEGRADED,
            f"no operator has given a sign for {queues.OPERATOR_SECONDS} seconds: no model starts, "
            "stops or scales until one does; see its log",
        )


def _dispatch(scores: Any, now: Any, reason: str = "") -> Dependency:
    """Dispatch's state. Degraded: accepted predictions wait, or their ends are not recorded."""
    stalled = progress.stalled(scores, now)
    if not stalled:
        return Dependency(HealthState.OK, "its loops get on")
    if reason:
        return _unknown(reason)
    if stalled == dict.fromkeys(progress.LOOPS):
        message = "no dispatch was heard of: predictions wait until it runs"
        return Dependency(HealthState.DEGRADED, message)
    said = ", ".join(
        loop if seconds is None else f"{loop} for {seconds:.0f} s"
        for loop, seconds in stalled.items()
    )
    return Dependency(
        HealthState.DEGRADED,
        f"without progress: {said}; dispatch does not run, or its log says why",
    )


def _unknown(reason: str) -> Dependency:
    return Dependency(HealthState.DEGRADED, f"unknown while Redis {reason}")


def _revision(engine: Engine) -> str | None:
    """None if the schema was never created."""
    with engine.connect() as connection:
        try:
            found: str | None = connection.execute(
                text("SELECT version_num FROM alembic_version")
            ).scalar()
        except ProgrammingError:
            return None
        return found


router = APIRouter(prefix="/health", tags=["health"])


async def _report(request: Request) -> Report:
    health: Health = request.app.state.services.health
    return await health.report()


@router.get("", responses=_UNREADY)
async def health(request: Request, response: Response) -> ReportOut:
    """Overall state, and that of each dependency."""
    report = await _report(request)
    response.status_code = 200 if report.is_ready else 503
    return report.body()


@router.get("/live")
async def live() -> Live:
    """Whether the process answers at all; checks nothing else."""
    return {"status": HealthState.OK}


@router.get("/ready", responses=_UNREADY)
async def ready(request: Request, response: Response) -> ReportOut:
    """503 while requests cannot be served: take this gateway out of the load balancer."""
    return await health(request, response)
