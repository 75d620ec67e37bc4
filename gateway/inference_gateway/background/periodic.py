"""Periodic tasks of every gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod

from inference_gateway.postgres import db

log = logging.getLogger(__name__)


class Periodic(ABC):
    """Runs a blocking step periodically on a thread. Of failures in a row the first is logged.

    Args:
        name: name in the log.
        pause_seconds: pause before each step.
    """

    def __init__(self, name: str, pause_seconds: float) -> None:
        self._name = name
        self._pause_seconds = pause_seconds
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    def step(self) -> None:
        """One round. Blocks."""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause_seconds)
            try:
                await asyncio.to_thread(self.step)
            except Exception as error:
                if not self._is_failing:
                    log.warning("%s: %s", self._name, db.describe(error))
                self._is_failing = True
            else:
                self._is_failing = False
