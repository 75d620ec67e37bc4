"""Somebody with a model of their own, who must not notice what others do."""

from __future__ import annotations

import itertools
import threading
from types import TracebackType
from typing import Self

import httpx

from ledger import Ledger
from world import World

_WITHIN_SECONDS = 10
"""Far from what it takes, and far from what an outage takes: these machines are busy."""


class Bystander:
    """Asks without a pause while it is entered; whatever goes wrong is a complaint."""

    def __init__(self, world: World, ledger: Ledger, during: str) -> None:
        self._world = world
        self._ledger = ledger
        self._during = during
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _ask(self) -> None:
        headers = {**self._world.headers, "Prefer": f"wait={_WITHIN_SECONDS}"}
        with httpx.Client(base_url=self._world.url, timeout=2 * _WITHIN_SECONDS) as client:
            for number in itertools.count():
                body = {"model_id": "admin/bystander", "input": {"text": f"bystander {number}"}}
                try:
                    reply = client.post("/v1/predictions", json=body, headers=headers)
                    right = reply.is_success and reply.json()["output"] == f"BYSTANDER {number}"
                    problem = "" if right else f"{reply.status_code} {reply.text[:200]}"
                except httpx.HTTPError as error:
                    problem = repr(error)
                if problem:
                    self._ledger.complain(f"a bystander, during {self._during}: {problem}")
                self._ledger.count("bystanders' predictions")
                if self._stopped.is_set():
                    return
