"""The quota of an account on predictions: how many may wait or run, how many bytes be stored.

PostgreSQL knows how many there are. Asking it for each request would cost more than storing the
request: so an answer holds for two seconds, what was accepted here since is added, and near the
limit it is asked ten times a second. Gateways that race pass the limit by what the others accept
meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import TooManyRequests
from inference_gateway.quotas import metrics
from inference_gateway.quotas.amounts import amount
from inference_gateway.quotas.refusal import QuotaExceeded
from inference_gateway.settings import Settings
from inference_gateway.tables import OPEN

log = logging.getLogger(__name__)

_FAR_SECONDS = 2.0
"""How long an answer holds while less than half of the quota is used."""
_NEAR_SECONDS = 0.1
_MAX_OWNERS = 10_000
_RETRY_AFTER = {"Retry-After": "1"}

_COUNT = text(f"""
SELECT (SELECT count(*) FROM predictions WHERE owner = :owner AND {OPEN}),
  COALESCE((SELECT stored_bytes FROM account_usage WHERE owner = :owner), 0)
""")  # noqa: S608 - constants of ours


@dataclass(frozen=True, slots=True)
class Used:
    """What an account has, by the database."""

    open: int
    stored_bytes: int


Count = Callable[[str], Used]
"""Of an account, by its id. Blocks."""


def counter(engine: Engine) -> Count:
    def count(owner: str) -> Used:
        with engine.connect() as connection:
            return Used(*connection.execute(_COUNT, {"owner": UUID(owner)}).one())

    return count


@dataclass(slots=True)
class _Account:
    used: Used
    at: float
    added: int = 0
    """Accepted here since."""
    added_bytes: int = 0
    counting: asyncio.Task[None] | None = None


class PredictionQuotas:
    """On one event loop."""

    def __init__(self, settings: Settings, count: Count) -> None:
        self._count = count
        self._most_open = settings.quota_open_predictions
        self._most_bytes = amount(settings.quota_stored_bytes)
        self._accounts: dict[str, _Account] = {}

    async def take(self, user: Principal, size: int) -> None:
        """Let one more prediction count, with so many bytes of input.

        Raises:
            TooManyRequests, QuotaExceeded
        """
        if user.is_admin or not (self._most_open or self._most_bytes):
            return
        account = self._accounts.get(user.user_id)
        if account is None or not self._holds(account):
            account = await self._look(user.user_id)
        if 0 < self._most_open <= account.used.open + account.added:
            raise self._too_many()
        if 0 < self._most_bytes < account.used.stored_bytes + account.added_bytes + size:
            raise self._too_much()
        account.added += 1
        account.added_bytes += size

    def _holds(self, account: _Account) -> bool:
        age = time.monotonic() - account.at
        if age < _NEAR_SECONDS:
            return True
        is_far = (
            not self._most_open or 2 * (account.used.open + account.added) < self._most_open
        ) and 2 * (account.used.stored_bytes + account.added_bytes) < self._most_bytes
        return is_far and age < _FAR_SECONDS

    async def _look(self, owner: str) -> _Account:
        """Many requests that come at once ask the database once."""
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
        """While PostgreSQL does not answer nothing is refused: nothing is stored either."""
        added = account.added
        try:
            used = await asyncio.to_thread(self._count, owner)
            if used.stored_bytes != account.used.stored_bytes:
                account.added_bytes = 0
            account.used = used
            account.added -= added
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
