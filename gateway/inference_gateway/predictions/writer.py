"""Stores new predictions and puts them on their queues: many requests, one commit.

Two threads with a connection each take whatever waits (the next batch gathers while the last one
commits), insert it in one statement, and only then enqueue: an event must not come before its row.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2

from inference_gateway import changes, db, set_aside
from inference_gateway.errors import GatewayError, Invalid, Unavailable, Unconfirmed
from inference_gateway.predictions import ids, metrics
from inference_gateway.predictions.enqueuer import Enqueuer
from inference_gateway.predictions.schemas import Row
from inference_gateway.predictions.store import InDoubt, Store

log = logging.getLogger(__name__)

MAX_BATCH = 500
MAX_BATCH_BYTES = 8_000_000
MAX_WAITING = 10_000
_STOP_SECONDS = 5.0
"""A thread that hangs in PostgreSQL is left behind."""
Outcome = Row | GatewayError


@dataclass(slots=True, eq=False)
class NewPrediction:
    """A row that shall be stored, and who hears of it.

    Args:
        row: all columns, and `lives_seconds`: from its creation to its deadline.
        size: bytes of its input.
        future: gets the row as it is stored, which under an idempotency key can be an older one,
            or the GatewayError.
        quiet: when all is well say nothing: the future is for the prediction's end.
    """

    row: dict[str, Any]
    size: int
    future: asyncio.Future[Any]
    quiet: bool = False

    async def stored(self) -> Row:
        """The row, once it is stored, of one that was quiet so far; raises its GatewayError."""
        self.future = asyncio.get_running_loop().create_future()
        self.quiet = False
        # The thread fills in `created_at` before it looks at `quiet`: one of the two is seen.
        if self.row["created_at"] is not None:
            return self.row
        stored: Row = await self.future
        return stored


class Writer:
    """`put` belongs on the event loop.

    Args:
        stores: one for each thread.
    """

    def __init__(self, stores: Sequence[Store], enqueuer: Enqueuer) -> None:
        self._stores = stores
        self._enqueuer = enqueuer
        self._inbox: queue.SimpleQueue[NewPrediction | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number, store in enumerate(self._stores):
            name = f"writer-{number}"
            thread = threading.Thread(target=self._run, args=(store,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    async def stop(self) -> None:
        """Store what waits, then end."""
        self._inbox.put(None)
        for store in self._stores:
            store.hurry()
        until = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(until - time.monotonic(), 0))

    def put(self, new: NewPrediction) -> None:
        """Raises Unavailable if too many wait already."""
        if self._inbox.qsize() >= MAX_WAITING:
            raise Unavailable(
                "too many predictions wait to be stored; this one was not, try again",
                headers={"Retry-After": "1"},
            )
        changes.begin()
        self._inbox.put(new)

    def _run(self, store: Store) -> None:
        while batch := self._gather():
            try:
                self._handle(store, batch)
            except Exception:
                log.exception("the writer stumbled; the relay enqueues what it stored")
        store.close()

    def _gather(self) -> list[NewPrediction]:
        """Everything that waits; blocks until there is something. Nothing: stop."""
        new = self._inbox.get()
        batch: list[NewPrediction] = []
        size = 0
        while new is not None:
            batch.append(new)
            size += new.size
            if len(batch) == MAX_BATCH or size >= MAX_BATCH_BYTES:
                return batch
            try:
                new = self._inbox.get_nowait()
            except queue.Empty:
                return batch
        self._inbox.put(None)  # For the other thread, or for our next round.
        return batch

    def _handle(self, store: Store, batch: list[NewPrediction]) -> None:
        try:
            outcomes = self._insert(store, batch)
        except Exception:
            log.exception("the writer stumbled")
            outcomes = [(new, unconfirmed(new)) for new in batch]
        self._tell(outcomes)
        fresh = [new.row for new, outcome in outcomes if outcome is new.row]
        if not fresh:
            return
        by_model = defaultdict(list)
        for row in fresh:
            by_model[row["model"]].append(row)
        for model, rows in by_model.items():
            self._enqueuer.enqueue(model, rows)
            log.info("created", extra={"model": model, "predictions": [r["id"] for r in rows]})
        metrics.STORED.inc(len(fresh))
        metrics.BATCH_ROWS.observe(len(fresh))

    def _insert(
        self, store: Store, batch: list[NewPrediction]
    ) -> list[tuple[NewPrediction, Outcome]]:
        # Sorted by key, so that two gateways never wait for each other crosswise.
        batch.sort(key=_idempotency)
        try:
            stored = store.insert([new.row for new in batch])
        except (psycopg2.DataError, psycopg2.IntegrityError, TypeError, ValueError) as error:
            if len(batch) == 1:
                set_aside.ITEMS.labels("writer").inc()
                log.warning("an input cannot be stored: %s", db.describe(error))
                return [(batch[0], Invalid("the input cannot be stored"))]
            middle = len(batch) // 2
            return self._insert(store, batch[:middle]) + self._insert(store, batch[middle:])
        except InDoubt as error:
            log.warning("nobody knows whether a batch was stored: %s", error)
            metrics.UNCONFIRMED.inc(len(batch))
            return [(new, unconfirmed(new)) for new in batch]
        except psycopg2.Error as error:
            log.warning("PostgreSQL stores nothing: %s", db.describe(error))
            metrics.UNAVAILABLE.inc(len(batch))
            return [(new, _unavailable()) for new in batch]
        return [(new, _own(new, row)) for new, row in zip(batch, stored, strict=True)]

    def _tell(self, outcomes: list[tuple[NewPrediction, Outcome]]) -> None:
        loud = [(new, out) for new, out in outcomes if not (new.quiet and out is new.row)]
        if loud and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, loud)


def _own(new: NewPrediction, stored: Row) -> Row:
    """`new.row` itself if that is what was stored, whoever read it back."""
    if stored is not new.row and stored["id"] == new.row["id"]:
        new.row |= {"created_at": stored["created_at"], "deadline": stored["deadline"]}
        return new.row
    return stored


def _resolve(outcomes: list[tuple[NewPrediction, Outcome]]) -> None:
    for new, outcome in outcomes:
        if new.future.done():
            continue
        if isinstance(outcome, GatewayError):
            new.future.set_exception(outcome)
        else:
            new.future.set_result(outcome)


def _idempotency(new: NewPrediction) -> tuple[str, str]:
    key = new.row["idempotency_key"]
    return ("", "") if key is None else (new.row["owner"], key)


def unconfirmed(new: NewPrediction) -> Unconfirmed:
    """What the caller is told when nobody knows whether the row was committed."""
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
