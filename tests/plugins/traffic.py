"""Clients that send predictions without a pause, with retries, and count the outcomes."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
from release import Account, Release, connect

_PAUSE_SECONDS = 0.05
_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Tally:
    """The outcomes of all sent predictions."""

    sent: int
    longest: float
    """Most seconds from a prediction's creation to its end."""
    attempts: int
    """Most attempts of one prediction."""
    outage: float
    """Most seconds between two accepted predictions."""

    def __str__(self) -> str:
        return (
            f"{self.sent} predictions, all right; the slowest took {self.longest:.1f} s, at most "
            f"{self.attempts} attempts, {self.outage:.1f} s without one being accepted"
        )


class Traffic:
    """Sends predictions within its context. The model returns its `text`, in any case.

    Each prediction is sent with its own idempotency key until it is accepted, so that it is created
    once.

    Args:
        every: seconds between two predictions of one client.
    """

    def __init__(
        self, release: Release, account: Account, model: str, clients: int = 4, every: float = 0.4
    ) -> None:
        self._release = release
        self._account = account
        self._model = model
        self._every = every
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self._accepted: dict[int, tuple[str, float]] = {}
        """Number → id, and when it was accepted."""
        self._threads = [threading.Thread(target=self._send_all) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.flows()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def flows(self, count: int = 20, timeout: float = 90) -> None:
        """Wait until the next predictions have succeeded. Uses the gateway only."""
        begin = len(self._accepted)
        wait_until, api = self._account.wait_until, self._account.api
        wait_until(lambda: len(self._accepted) >= begin + count, timeout)
        for made, _ in list(self._accepted.values())[begin : begin + count]:
            path = f"/v1/predictions/{made}"
            wait_until(lambda path=path: api.get(path).json()["status"] == "succeeded", timeout)

    def tally(self, timeout: float = 120) -> Tally:
        """Wait until the last prediction has ended. To be called after sending.

        Raises:
            AssertionError: unless each was stored once and ended once, with the right output.
        """
        self._account.wait_until(
            lambda: not self._count("completed_at IS NULL"), timeout, every=0.5
        )
        sent = len(self._accepted)
        ids = {row[0] for row in self._rows("id")}
        accepted = {made for made, _ in self._accepted.values()}
        assert not accepted - ids, f"accepted, and lost: {accepted - ids}"
        assert not ids - accepted, f"stored, and not accepted: {ids - accepted}"
        assert len(ids) == sent
        right = "status = 'succeeded' AND lower(output #>> '{}') = input ->> 'text'"
        wrong = self._rows("id, status, attempt, error_code, output", f"NOT ({right})")
        assert not wrong, wrong
        waits = "round(extract(epoch FROM max(completed_at - created_at)), 3)"
        [[longest, attempts]] = self._rows(f"{waits}, max(attempt)")
        times = sorted(when for _, when in self._accepted.values())
        outage = max(later - sooner for sooner, later in itertools.pairwise(times))
        return Tally(sent, float(longest), int(attempts), outage)

    def _count(self, condition: str) -> int:
        return int(self._rows("count(*)", condition)[0][0])

    def _rows(self, columns: str, condition: str = "true") -> list[list[str]]:
        which = f"idempotency_key LIKE '{self._run}-%' AND {condition}"
        return self._release.sql(f"SELECT {columns} FROM predictions WHERE {which}")

    def _send_all(self) -> None:
        with connect(self._release.url, self._account.token, seconds=10) as client:
            while not self._stopped.is_set():
                number = next(self._numbers)
                self._accepted[number] = self._send(client, number), time.monotonic()
                self._stopped.wait(self._every)

    def _send(self, client: httpx.Client, number: int) -> str:
        body = {"model_id": self._model, "input": {"text": f"text {number}"}}
        headers = {"Idempotency-Key": f"{self._run}-{number}"}
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                reply = client.post("/v1/predictions", json=body, headers=headers)
            except httpx.TransportError:
                time.sleep(_PAUSE_SECONDS)
                continue
            if reply.status_code < 500:
                assert reply.status_code == 201, f"{reply}: {reply.text}"
                return str(reply.json()["id"])
            time.sleep(_PAUSE_SECONDS)
        raise AssertionError(f"prediction {number} was not accepted")
