"""Sizes of models' queues, and free space in Redis; read once a second."""

from __future__ import annotations

import redis

from inference_contract import queues
from inference_gateway.background.periodic import Periodic
from inference_gateway.errors import TooManyRequests
from inference_gateway.quotas.queued import Room
from inference_gateway.redis.replies import each

_EVERY_SECONDS = 1.0


class QueueSizes(Periodic):
    """Sizes for the models that got work since the last reading.

    Args:
        most: predictions that may wait or run for one model.
        room: kept current while there are predictions to enqueue.
    """

    def __init__(self, client: redis.Redis, most: int, room: Room) -> None:
        super().__init__("queue-sizes", _EVERY_SECONDS)
        self._redis = client
        self._most = most
        self._room = room
        self._open: dict[str, int] = {}
        self._used: set[str] = set()

    def add(self, model: str, count: int) -> None:
        """Count newly stored predictions."""
        self._open[model] = self._open.get(model, 0) + count
        self._used.add(model)

    def check(self, model: str) -> None:
        """Raises TooManyRequests while the model has the maximum of open predictions."""
        if (known := self._open.get(model, 0)) >= self._most:
            self._used.add(model)
            raise TooManyRequests(
                f"{known} predictions of {model} wait or run, at most {self._most} may: "
                "try again later",
                headers={"Retry-After": "1"},
            )

    def step(self) -> None:
        """Raises redis.RedisError."""
        used, self._used = self._used, set()  # Swap first: the event loop adds meanwhile.
        models = list(used)
        if not models:
            self._open = {}
            return
        self._room.look(self._redis)
        with self._redis.pipeline(transaction=False) as pipe:
            for key in map(queues.model_key, models):
                pipe.llen(queues.queue_key(key))
                pipe.zcard(queues.in_flight_key(key))
            sizes = each(pipe)
        # Keys that runners damaged give no number; then no request is refused.
        pairs = zip(models, sizes[::2], sizes[1::2], strict=True)
        self._open = {m: sum(n for n in pair if isinstance(n, int)) for m, *pair in pairs}
