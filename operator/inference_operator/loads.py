"""The load of all models: one round trip to Redis a tick."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from inference_contract import queues
from inference_operator.redis_link import Command, RedisLink


class Load(NamedTuple):
    queued: int
    in_flight: int


class Loads:
    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def read(self, model_ids: Iterable[str]) -> dict[str, Load]:
        """Waiting and running predictions of each model.

        Raises:
            RedisUnavailable: nothing is known of any model.
        """
        ids = list(model_ids)
        commands: list[Command] = []
        for key in map(queues.model_key, ids):
            commands += [("LLEN", queues.queue_key(key)), ("ZCARD", queues.in_flight_key(key))]
        numbers = self._link.ask(commands)
        return {model_id: Load(*numbers[2 * i : 2 * i + 2]) for i, model_id in enumerate(ids)}

    def close(self) -> None:
        self._link.close()
