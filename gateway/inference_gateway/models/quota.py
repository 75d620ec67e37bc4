"""An account's quota on models, enforced when the API writes them.

Documents written by other means are counted but not refused. Lowering a quota removes nothing:
changes that do not raise an exceeded amount are allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.auth.accounts import Principal
from inference_gateway.models.catalog import CatalogModel, ModelCatalog, owner_of
from inference_gateway.quotas import metrics
from inference_gateway.quotas.amounts import Amounts, amount, total
from inference_gateway.quotas.refusal import QuotaExceeded
from inference_gateway.settings import GatewaySettings

_WHAT = {
    "replicas": "replicas in all (the sum of maxReplicas and rollout.maxSurge)",
    "min_replicas": "replicas that are always there (the sum of minReplicas)",
    "gpus": "GPUs in all (those of a replica times maxReplicas and rollout.maxSurge)",
    "cache_bytes": "bytes of volumes for weights (the sum of cache.size)",
}


class ModelQuotas:
    """For one event loop. Other gateways' writes count once they are in the cache."""

    def __init__(self, settings: GatewaySettings, catalog: ModelCatalog) -> None:
        self._catalog = catalog
        self._most = {
            "models": settings.quota_models,
            "replicas": settings.quota_replicas,
            "min_replicas": settings.quota_min_replicas,
            "gpus": settings.quota_gpus,
            "cache_bytes": amount(settings.quota_cache_bytes),
        }
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, user: Principal, model: InferenceModel) -> AsyncIterator[None]:
        """A lock: inside it no other request writes models of this owner. Raises QuotaExceeded."""
        lock = self._turns.setdefault(model.owner, asyncio.Lock())
        async with lock:
            if not user.is_admin:
                self._check(model)
            yield

    def _check(self, model: InferenceModel) -> None:
        theirs = {
            entry.id: Amounts.of(entry.model.spec)
            if isinstance(entry, CatalogModel)
            else Amounts(models=1)
            for entry in self._catalog.entries()
            if owner_of(entry.id) == model.owner
        }
        before = total(theirs.values())
        after = total({**theirs, model.id: Amounts.of(model.spec)}.values())
        for name, most in self._most.items():
            wanted = getattr(after, name)
            if 0 < most < wanted > getattr(before, name):
                metrics.REFUSED.labels(name).inc()
                raise QuotaExceeded(_refusal(name, most, wanted))


def _refusal(name: str, most: int, wanted: int) -> str:
    setting = f"QUOTA_{name.upper()}"
    if name == "models":
        return (
            f"Quota exceeded: you may have {most} models ({setting}). Delete one, or ask an "
            "administrator to raise it."
        )
    return (
        f"Quota exceeded: your models may have {most} {_WHAT[name]}, and with this one would have "
        f"{wanted} ({setting}). Ask for less, delete a model, or ask an administrator to raise it."
    )
