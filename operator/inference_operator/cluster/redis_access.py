"""How a model's runners get at Redis: as a user of their own, or by one URL that is set for all."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from inference_contract.inferencemodel import Reason
from inference_contract.queues import model_key
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.resource import Refusal, Resource, require_ours
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.redis.connection import RedisUnavailable
from inference_operator.redis.credentials import runner_url, url_in
from inference_operator.redis.users import RedisUsers, Suspended, UsersRefused

log = logging.getLogger(__name__)


class _Known(NamedTuple):
    url: str = ""
    until: float = 0.0
    """When the Secret is read again: no watch tells of it."""


class RedisAccess:
    """A key is worked on by one thread at a time."""

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
        if not (self._url_of_all or urlsplit(self._url).password):
            log.warning("REDIS_URL has no password: models reach all of this Redis without one too")

    def url(self, resource: Resource, *, is_new: bool) -> str:
        """What the model's Secret shall hold: what it holds, if that is right.

        Args:
            is_new: there is no Deployment; a Secret that is there all the same serves no pod.

        Raises:
            Refusal: for a Secret that is not ours.
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
        """Before a runner comes with this URL.

        Raises:
            Refusal: nothing new may start.
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
        """The model is gone."""
        self._known.pop(key, None)

    def tidy(self, *, restore: bool = False) -> None:
        """Remove the users of models without a document and without pods, once all are known.

        Args:
            restore: set those of the others anew too, whoever may have changed them.
        """
        if self._url_of_all:
            return
        try:
            if restore:
                self._users.restore()
            if self._mirror.is_complete():
                self._users.sweep(self._mirror.model_keys)
        except (UsersRefused, RedisUnavailable) as error:
            log.warning("the Redis users of models that are gone stay for now: %s", error)
