"""A thread that renews leases, sends `started`, `heartbeat` and logs, and reads cancel requests.

It sends `started` only for runs longer than 10 ms; shorter ones have only a terminal event.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import orjson
import redis

from inference_contract.predictions import EventType
from inference_runner.redis.claim import ClaimKeys, Command
from inference_runner.redis.emitter import Emitter, entries, event
from inference_runner.redis.session import RedisSession, pipe
from inference_runner.runs import Run

log = logging.getLogger(__name__)

SHORT_RUN = 0.01
LOOK_EVERY = 0.25
"""Seconds between two checks for cancel requests and output, while predictions run."""
LOGS_EVERY = 1.0
"""Seconds between two `logs` events of a run: each holds all of its logs."""
LONGEST_BEAT = 20.0
"""Seconds between heartbeats at most, however long a lease is: RQ's worker key expires too."""


class Heartbeat:
    """Runs until `stop`.

    Args:
        client: a client of its own.
        register: commands that (re)write the worker's registration in RQ.
        look: called every LOOK_EVERY while predictions run; may end runs.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: ClaimKeys,
        session: RedisSession,
        emitter: Emitter,
        lease: float,
        register: Callable[[], list[Command]],
        look: Callable[[], None],
    ) -> None:
        self._client, self._keys, self._session, self._emitter = client, keys, session, emitter
        self._lease, self._register = lease, register
        self._look = look
        self._beat_every = min(lease / 3, LONGEST_BEAT)
        self._next_beat = time.monotonic() + self._beat_every
        self._next_look = 0.0
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def notice(self) -> None:
        """Called at the start of every batch; cheap."""
        if not self._wake.is_set():
            self._wake.set()

    def _loop(self) -> None:
        while not self._stopped:
            if self._wake.wait(self._until_next()):
                time.sleep(SHORT_RUN)  # Runs that end within this time need no event.
            self._wake.clear()
            if self._stopped:
                return
            try:
                self._tick()
            except redis.RedisError as error:
                log.warning("no heartbeat: Redis does not answer", extra={"error": str(error)})
                time.sleep(min(1.0, self._beat_every / 2))
            except Exception:
                log.exception("the heartbeat failed")
                time.sleep(0.1)

    def _until_next(self) -> float:
        due = self._next_beat
        if self._session.mine:
            due = min(due, self._next_look)
        return max(0.0, due - time.monotonic())

    def _tick(self) -> None:
        while self._announce():
            time.sleep(SHORT_RUN)
        now = time.monotonic()
        if now >= self._next_beat:
            self.beat()
            self._next_beat = now + self._beat_every
        if self._session.mine and now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            self._look()
            self._say_logs(now)
            self._session.cancel(self._client.hgetall(self._keys.cancel))
            self._look()
            if self._emitter.pending:
                self._session.send_through(self._client)

    def _say_logs(self, now: float) -> None:
        for run in list(self._session.mine.values()):
            if run.prints is not None and run.prints.has_news and not run.ended:
                all_too = now >= run.next_logs
                if all_too:
                    run.next_logs = now + LOGS_EVERY
                self._emitter.logs(run, all_too=all_too)

    def _announce(self) -> bool:
        """Send `started` for runs longer than SHORT_RUN. Returns whether there are younger ones."""
        young = False
        due: list[Run] = []
        for run in list(self._session.mine.values()):
            if run.begun is not None and not run.announced and not run.ended:
                if run.elapsed() >= SHORT_RUN:
                    due.append(run)
                else:
                    young = True
        if due:
            with self._emitter.lock:
                due = [run for run in due if not run.ended]
                self._send_events(EventType.STARTED, due)
                self._send([c for run in due for c in self._keys.executing(run, self._lease)])
                for run in due:
                    run.announced = True
        return young

    def beat(self) -> None:
        """Renew all leases, and the worker's registration."""
        runs = list(self._session.mine.values())
        commands = self._register()
        commands += self._keys.renewal(runs, self._lease)
        self._send(commands)
        with self._emitter.lock:
            self._send_events(EventType.HEARTBEAT, [r for r in runs if r.announced and not r.ended])

    def _send_events(self, type: EventType, runs: list[Run]) -> None:
        if runs:
            said = [orjson.dumps(event(type, run)) for run in runs]
            self._send([("XADD", self._keys.events, "*", "d", body) for body in entries(said)])

    def _send(self, commands: list[Command]) -> None:
        for reply in pipe(self._client, commands):
            if isinstance(reply, Exception):
                raise reply
