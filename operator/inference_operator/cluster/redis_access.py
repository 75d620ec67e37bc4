"""Redis access of a model's runners: a user of their own, or one URL for all runners."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from inference_contract.inferencemodel import Reason
from inference_contract.queues import model_key
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.resource import Refusal, Resource, require_ours
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.redis import address
from inference_operator.redis.connection import RedisUnavailable
from inference_operator.redis.credentials import runner_url, url_in
from inference_operator.redis.users import RedisUsers, Suspended, UsersRefused

log = logging.getLogger(__name__)


class _Known(NamedTuple):
    url: str = ""
    until: float = 0.0
    """When the Secret is read again: Secrets are not watched."""


class RedisAccess:
    """One thread at a time works on a key."""

    def __init__(
        self, cluster: Cluster, mirror: Mirror, users: RedisUsers, settings: ClusterSettings
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._users = users
        self._url = settings.redis_url
        self._url_of_all = settings.runner_redis_url
        self._resync = settings.resync_seconds
        self._known: dict[Key, _Known] = {}
        if not (self._url_of_all or address.parse(self._url).password):
            log.warning("REDIS_URL has no password: models reach all of this Redis without one too")

    def url(self, resource: Resource, *, is_new: bool) -> str:
        """The URL for the model's Secret: the present one, if it is valid.

        Args:
            is_new: whether the Deployment is missing; then no pod uses an existing Secret.

        Raises:
            Refusal: the Secret is not this model's.
        """
        if self._url_of_all:
            return self._url_of_all
        model, parent = model_key(resource.model.id), resource.parent
        known, now = self._known.get(resource.key, _Known()), time.monotonic()
        earlier = [known.url]
        if known.until <= now:
            name = parent.namespace, parent.child
            there = None if is_new else self._cluster.get(Kind.SECRET, *name)
            if there is not None:
                require_ours(there, parent)
            earlier = [url_in(there), known.url]
            known = _Known(until=now + self._resync / 2)
        url = runner_url(model, self._url, earlier)
        self._known[resource.key] = known._replace(url=url)
        return url

    def open(self, resource: Resource, url: str) -> None:
        """Create the user of this URL, before runners use it.

        Raises:
            Refusal: no new runner may start.
        """
        if self._url_of_all:
            return
        try:
            generation = resource.model.metadata.generation
            self._users.ensure(model_key(resource.model.id), url, (resource.parent.uid, generation))
        except Suspended as error:
            raise Refusal(Reason.REDIS_BUDGET_EXCEEDED, str(error)) from error
        except UsersRefused as error:
            raise Refusal(Reason.REDIS_UNAVAILABLE, str(error), may_pass=True) from error
        except RedisUnavailable as error:
            message = f"Redis does not answer ({error}): nothing new starts until it does"
            raise Refusal(Reason.REDIS_UNAVAILABLE, message, may_pass=True) from error

    def forget(self, key: Key) -> None:
        """Drop the data of a deleted model."""
        self._known.pop(key, None)

    def remove_orphans(self, *, restore: bool = False) -> None:
        """Remove the users of models without a document and pods, once all models are listed.

        Args:
            restore: also set all other users again, in case they were changed.
        """
        if self._url_of_all:
            return
        try:
            if restore:
                self._users.restore()
            if self._mirror.is_complete():
                self._users.sweep(self._mirror.model_keys)
        except (UsersRefused, RedisUnavailable) as error:
            log.warning("cannot remove the Redis users of deleted models yet: %s", error)
