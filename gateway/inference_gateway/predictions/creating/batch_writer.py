"""Stores new predictions and puts them on their queues: one commit for many requests.

Two tasks with a connection each take the waiting predictions (while one batch commits, the next one
gathers), insert them in one statement, and only then enqueue them: an event must not come before
its row. Predictions that were stored together run, end and are answered together, so the batches
here determine the size of all later batches."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2

from inference_gateway import changes
from inference_gateway.background import set_aside
from inference_gateway.errors import GatewayError, Invalid, Unavailable, Unconfirmed
from inference_gateway.lifecycle import ids
from inference_gateway.lifecycle.prediction import NewRow, State
from inference_gateway.postgres import db
from inference_gateway.predictions import metrics
from inference_gateway.predictions.creating.enqueuer import Enqueuer
from inference_gateway.predictions.creating.insert import InDoubt, InsertConnection
from inference_gateway.predictions.creating.queue_sizes import QueueSizes

log = logging.getLogger(__name__)

MAX_BATCH = 500
MAX_BATCH_BYTES = 8_000_000
MAX_WAITING = 10_000
_PATIENCE_SECONDS = 0.002
"""How long a batch waits for more predictions, while it has fewer than half as many as there are
waiting callers. A batch costs 3 ms of CPU in all processes together, each prediction in it 0.4."""
_STOP_SECONDS = 5.0
"""After it, a task that waits for PostgreSQL is canceled."""
Outcome = NewRow | State | GatewayError


@dataclass(slots=True, eq=False)
class NewPrediction:
    """A row to store, with the future for its outcome.

    Args:
        row: all columns, and `lives_seconds`: from its creation to its deadline.
        size: bytes of its input.
        future: gets the stored row (with an idempotency key perhaps an older one) or the
            GatewayError.
        quiet: only errors go to the future, which otherwise waits for the prediction's end.
    """

    row: NewRow
    size: int
    future: asyncio.Future[Any]
    quiet: bool = False
    outcome: Outcome | None = None

    def tell(self, outcome: Outcome) -> None:
        """Set the outcome, unless the caller has stopped waiting."""
        self.outcome = outcome
        if not self.future.done() and not (self.quiet and outcome is self.row):
            self._resolve(outcome)

    async def stored(self) -> NewRow | State:
        """Wait for the stored row of a quiet prediction. Raises its GatewayError."""
        self.future = asyncio.get_running_loop().create_future()
        self.quiet = False
        if self.outcome is not None:
            self._resolve(self.outcome)
        stored: NewRow | State = await self.future
        return stored

    def _resolve(self, outcome: Outcome) -> None:
        if isinstance(outcome, GatewayError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class BatchWriter:
    """For one event loop.

    Args:
        stores: connections; one for each concurrent batch.
        waiting: returns the number of callers that wait for ends of predictions.
    """

    def __init__(
        self,
        stores: Sequence[InsertConnection],
        enqueuer: Enqueuer,
        sizes: QueueSizes,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._stores = stores
        self._enqueuer = enqueuer
        self._sizes = sizes
        self._waiting = waiting
        self._inbox: deque[NewPrediction] = deque()
        self._idle: list[asyncio.Future[None]] = []
        """Futures of the idle tasks."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._run(store), name=f"writer-{number}")
            for number, store in enumerate(self._stores)
        ]

    async def stop(self) -> None:
        """Store the waiting predictions, then end."""
        self._is_stopping = True
        for store in self._stores:
            store.hurry()
        while self._idle:
            self._wake()
        if self._tasks:
            _, hung = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
            for task in hung:
                task.cancel()
        for store in self._stores:
            store.close()

    def put(self, new: NewPrediction) -> None:
        """Raises Unavailable if too many wait already."""
        if len(self._inbox) >= MAX_WAITING:
            raise Unavailable(
                "too many predictions wait to be stored; this one was not, try again",
                headers={"Retry-After": "1"},
            )
        changes.begin()
        self._inbox.append(new)
        self._consider()

    def _consider(self) -> None:
        """Let a task begin with the waiting predictions, now or soon."""
        if not self._idle or not (self._inbox or self._is_stopping):
            return
        if self._is_stopping or 2 * len(self._inbox) >= self._waiting():
            self._wake()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._wake)

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._idle and not (idle := self._idle.pop()).done():
            idle.set_result(None)

    async def _run(self, store: InsertConnection) -> None:
        while not self._is_stopping or self._inbox:
            if not (batch := await self._gather()):
                continue
            try:
                await self._handle(store, batch)
            except Exception:
                log.exception("the batch writer failed; the relay enqueues the stored predictions")

    async def _gather(self) -> list[NewPrediction]:
        idle = asyncio.get_running_loop().create_future()
        self._idle.append(idle)
        self._consider()
        await idle
        batch: list[NewPrediction] = []
        size = 0
        while self._inbox and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            batch.append(self._inbox.popleft())
            size += batch[-1].size
        self._consider()
        return batch

    async def _handle(self, store: InsertConnection, batch: list[NewPrediction]) -> None:
        try:
            outcomes = await self._insert(store, batch)
        except Exception:
            log.exception("the batch writer failed")
            outcomes = [(new, unconfirmed(new)) for new in batch]
        for new, outcome in outcomes:
            new.tell(outcome)
        fresh = [new.row for new, outcome in outcomes if outcome is new.row]
        if not fresh:
            return
        by_model = defaultdict(list)
        for row in fresh:
            by_model[row["model"]].append(row)
        for model, rows in by_model.items():
            self._sizes.add(model, len(rows))
            await self._enqueuer.enqueue(model, rows)
            log.info("created", extra={"model": model, "predictions": [r["id"] for r in rows]})
        metrics.STORED.inc(len(fresh))
        metrics.BATCH_ROWS.observe(len(fresh))

    async def _insert(
        self, store: InsertConnection, batch: list[NewPrediction]
    ) -> list[tuple[NewPrediction, Outcome]]:
        # Sorted by key, so that two gateways cannot deadlock.
        batch.sort(key=_idempotency)
        try:
            stored = await store.insert([new.row for new in batch])
        except (psycopg2.DataError, psycopg2.IntegrityError, TypeError, ValueError) as error:
            if len(batch) == 1:
                set_aside.ITEMS.labels("writer").inc()
                log.warning("an input cannot be stored: %s", db.describe(error))
                return [(batch[0], Invalid("the input cannot be stored"))]
            middle = len(batch) // 2
            first = await self._insert(store, batch[:middle])
            return first + await self._insert(store, batch[middle:])
        except InDoubt as error:
            log.warning("it is not known whether a batch was stored: %s", error)
            metrics.UNCONFIRMED.inc(len(batch))
            return [(new, unconfirmed(new)) for new in batch]
        except psycopg2.Error as error:
            log.warning("PostgreSQL stores nothing: %s", db.describe(error))
            metrics.UNAVAILABLE.inc(len(batch))
            return [(new, _unavailable()) for new in batch]
        return [(new, _own(new, row)) for new, row in zip(batch, stored, strict=True)]


def _own(new: NewPrediction, stored: NewRow | State) -> NewRow | State:
    """`new.row` itself if that row was stored, else the older row."""
    if stored is not new.row and str(stored["id"]) == new.row["id"]:
        new.row |= {"created_at": stored["created_at"], "deadline": stored["deadline"]}
        return new.row
    return stored


def _idempotency(new: NewPrediction) -> tuple[str, str]:
    key = new.row["idempotency_key"]
    return ("", "") if key is None else (new.row["owner"], key)


def unconfirmed(new: NewPrediction) -> Unconfirmed:
    """The error for a caller when it is not known whether the row was committed."""
    if (key := new.row["idempotency_key"]) is not None:
        what = "Idempotency-Key" if ids.chosen_by(key) is None else "id"
        again = f"send the request again with the same {what}, which finds it if it was"
        return Unconfirmed(f"PostgreSQL did not say whether the prediction was stored: {again}")
    prediction = new.row["id"]
    return Unconfirmed(
        "PostgreSQL did not say whether the prediction was stored; if it was, it runs: "
        f"look for {prediction} before you send the request again, "
        "or send it with an Idempotency-Key the next time",
        prediction_id=prediction,
    )


def _unavailable() -> Unavailable:
    return Unavailable(
        "PostgreSQL does not answer; nothing was stored, try again", headers={"Retry-After": "2"}
    )
