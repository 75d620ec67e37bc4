"""An account's quota on predictions: how many may wait or run, and stored bytes; and which
predictions are held in PostgreSQL (`queued.py`).

The counts are in PostgreSQL. Reading them for each request would cost more than storing it: so a
count is cached for two seconds, predictions accepted here since are added, and near the limit it is
read ten times a second. Concurrent gateways may exceed the limit by what the others accept
meanwhile."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import TooManyRequests
from inference_gateway.postgres.tables import OPEN
from inference_gateway.quotas import metrics
from inference_gateway.quotas.amounts import amount
from inference_gateway.quotas.queued import Room, fits
from inference_gateway.quotas.refusal import QuotaExceeded
from inference_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_FAR_SECONDS = 2.0
"""How long a count is cached while less than half of the quota is used."""
_NEAR_SECONDS = 0.1
_MAX_OWNERS = 10_000
_RETRY_AFTER = {"Retry-After": "1"}

_COUNT = text(f"""
SELECT model, count(*), COALESCE(sum(input_bytes) FILTER (WHERE NOT held), 0)::bigint, bool_or(held)
FROM predictions WHERE owner = :owner AND {OPEN} GROUP BY model
""")  # noqa: S608 - constants of ours
_STORED = text("SELECT stored_bytes FROM account_usage WHERE owner = :owner")


@dataclass(frozen=True, slots=True)
class Used:
    """The usage of an account, from the database."""

    open: int
    stored_bytes: int
    queued: Mapping[str, int] = field(default_factory=dict)
    """Model → bytes of inputs in Redis."""
    queued_in_all: int = 0
    held: frozenset[str] = frozenset()
    """Models with held predictions."""


Count = Callable[[str], Used]
"""Returns the usage of an account, by its id. Blocks."""


def counter(engine: Engine) -> Count:
    def count(owner: str) -> Used:
        parameters = {"owner": UUID(owner)}
        with engine.connect() as connection:
            models = connection.execute(_COUNT, parameters).all()
            stored = connection.execute(_STORED, parameters).scalar_one_or_none()
        return Used(
            open=sum(count for _, count, _, _ in models),
            stored_bytes=stored or 0,
            queued={model: size for model, _, size, _ in models},
            queued_in_all=sum(size for _, _, size, _ in models),
            held=frozenset(model for model, _, _, is_held in models if is_held),
        )

    return count


@dataclass(slots=True)
class _Account:
    used: Used
    at: float
    added: int = 0
    """Predictions accepted here since the count."""
    added_bytes: int = 0
    queued: Counter[str] = field(default_factory=Counter)
    """Model → bytes of inputs sent to Redis from here since the count."""
    queued_in_all: int = 0
    held: set[str] = field(default_factory=set)
    """Models with a prediction held here since the count."""
    counting: asyncio.Task[None] | None = None

    @property
    def is_new(self) -> bool:
        """Whether the count is fresh."""
        return time.monotonic() - self.at < _NEAR_SECONDS


class PredictionQuotas:
    """For one event loop."""

    def __init__(self, settings: GatewaySettings, count: Count, room: Room | None = None) -> None:
        self._count = count
        self._room = room or Room()
        self._most_open = settings.quota_open_predictions
        self._most_bytes = amount(settings.quota_stored_bytes)
        self._budget = settings.queued_bytes_per_account or math.inf
        self._accounts: dict[str, _Account] = {}

    async def take(self, user: Principal, model: str, size: int) -> bool:
        """Count one more prediction with so many bytes of input.

        Returns:
            Whether it is held: the account's inputs in Redis have reached their limit.

        Raises:
            TooManyRequests, QuotaExceeded
        """
        account = self._accounts.get(user.user_id)
        if account is None or not (user.is_admin or self._holds(account)):
            account = await self._look(user.user_id)
        has_no_room = self._has_no_room(account, model, size)
        if has_no_room and not account.is_new:
            account = await self._look(user.user_id)
            has_no_room = self._has_no_room(account, model, size)
        if not user.is_admin:
            self._check(account, size)
        account.added += 1
        account.added_bytes += size
        if has_no_room:
            account.held.add(model)
            return True
        account.queued[model] = account.queued.get(model, 0) + size
        account.queued_in_all += size
        return False

    def _check(self, account: _Account, size: int) -> None:
        if 0 < self._most_open <= account.used.open + account.added:
            raise self._too_many()
        if 0 < self._most_bytes < account.used.stored_bytes + account.added_bytes + size:
            raise self._too_much()

    def _has_no_room(self, account: _Account, model: str, size: int) -> bool:
        """Whether it must be held. Predictions after a held one are held too: first in, first
        out."""
        used = account.used
        if model in used.held or model in account.held:
            return True
        of_model = used.queued.get(model, 0) + account.queued.get(model, 0)
        of_all = used.queued_in_all + account.queued_in_all
        return not fits(size, of_model, of_all, self._budget, self._room.bytes)

    def _holds(self, account: _Account) -> bool:
        age = time.monotonic() - account.at
        if age < _NEAR_SECONDS:
            return True
        is_far = (
            not self._most_open or 2 * (account.used.open + account.added) < self._most_open
        ) and 2 * (account.used.stored_bytes + account.added_bytes) < self._most_bytes
        return is_far and age < _FAR_SECONDS

    async def _look(self, owner: str) -> _Account:
        """Concurrent requests share one query."""
        account = self._accounts.get(owner)
        if account is None:
            while len(self._accounts) >= _MAX_OWNERS:
                del self._accounts[next(iter(self._accounts))]
            account = self._accounts[owner] = _Account(Used(0, 0), 0.0)
        if account.counting is None:
            account.counting = asyncio.create_task(self._recount(owner, account))
        await asyncio.shield(account.counting)
        return account

    async def _recount(self, owner: str, account: _Account) -> None:
        """Read the counts. While PostgreSQL does not answer, no request is refused here: storing
        fails anyway."""
        added, queued = account.added, account.queued.copy()
        account.held.clear()
        try:
            used = await asyncio.to_thread(self._count, owner)
            if used.stored_bytes != account.used.stored_bytes:
                account.added_bytes = 0
            account.used = used
            account.added -= added
            account.queued -= queued  # newer ones stay counted
            account.queued_in_all = account.queued.total()
        except SQLAlchemyError as error:
            log.warning("quotas on predictions are not known: %s", " ".join(str(error).split()))
        finally:
            account.at = time.monotonic()
            account.counting = None

    def _too_many(self) -> TooManyRequests:
        metrics.REFUSED.labels("open_predictions").inc()
        return TooManyRequests(
            f"Request was throttled. {self._most_open} predictions of yours may wait or run "
            "(QUOTA_OPEN_PREDICTIONS): try again when some of them have ended, or cancel some.",
            headers=_RETRY_AFTER,
        )

    def _too_much(self) -> QuotaExceeded:
        metrics.REFUSED.labels("stored_bytes").inc()
        return QuotaExceeded(
            f"Quota exceeded: the inputs, outputs and logs of your predictions may take "
            f"{self._most_bytes} bytes (QUOTA_STORED_BYTES), and with this one would take more. "
            "Ask an administrator to raise it."
        )
