"""A client with a model of its own, which must not be affected by others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from ledger import Ledger
from world import World

_WITHIN_SECONDS = 10
"""Far from what it takes, and far from what an outage takes: these machines are busy."""
_AFTER_A_PROBLEM = 0.1
"""Seconds, so that one that lasts is not told hundreds of times."""


class Bystander:
    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger
        self._numbers = itertools.count()
        self._headers = {**world.headers, "Prefer": f"wait={_WITHIN_SECONDS}"}

    def is_served(self) -> bool:
        """Whether one prediction of the bystander gets the right answer."""
        with self._client() as client:
            return not self._problem(client)

    @contextmanager
    def watching(self, during: str) -> Iterator[None]:
        """Send requests without a pause; each wrong answer is a complaint."""
        stopped = threading.Event()
        thread = threading.Thread(target=self._watch, args=(during, stopped), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def _watch(self, during: str, stopped: threading.Event) -> None:
        began = time.monotonic()
        with self._client() as client:
            while True:
                if problem := self._problem(client):
                    seconds = time.monotonic() - began
                    self._ledger.complain(
                        f"a bystander, {seconds:.1f} s after {during} began: {problem}"
                    )
                self._ledger.count("bystanders' predictions")
                if stopped.wait(_AFTER_A_PROBLEM if problem else 0):
                    return

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._world.url, timeout=2 * _WITHIN_SECONDS)

    def _problem(self, client: httpx.Client) -> str:
        """The error in the answer; empty if it is right."""
        number = next(self._numbers)
        body = {"model_id": "admin/bystander", "input": {"text": f"bystander {number}"}}
        try:
            reply = client.post("/v1/predictions", json=body, headers=self._headers)
            right = reply.is_success and reply.json()["output"] == f"BYSTANDER {number}"
            return "" if right else f"{reply.status_code} {reply.text[:300]}"
        except httpx.HTTPError as error:
            return repr(error)
