"""Everything dies at the worst moment, in an order drawn from a seed; then SQL must find the
promises kept."""

from __future__ import annotations

import hashlib
import random
import uuid
from typing import Any

import pytest
from clock import Clock

from inference_contract import queues
from inference_gateway.dispatch.recording import recorder as recorder_module
from inference_gateway.dispatch.recording.recorder import Recorder
from inference_gateway.lifecycle.cancel import cancel

ADA = str(uuid.UUID(hashlib.md5(b"ada").hexdigest()))

AUDIT = """
CREATE TABLE ends (prediction uuid, status text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO ends VALUES (NEW.id, NEW.status); RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON predictions FOR EACH ROW
  WHEN (NEW.completed_at IS NOT NULL) EXECUTE FUNCTION audit();
"""


class Killed(BaseException):
    """kill -9, as seen from inside."""


class MortalRecorder(Recorder):
    """Dies once between writing and acknowledging, if told to."""

    doomed = False

    def _acknowledge(self, read: Any, messages: Any) -> None:
        if self.doomed:
            raise Killed
        super()._acknowledge(read, messages)


class World:
    def __init__(self, lab: Any, seed: int) -> None:
        self.lab = lab
        self.random = random.Random(seed)
        self.predictions: list[str] = []
        self.held: list[dict[str, Any]] = []
        """Jobs that runners have; some of those runners are dead or taken for dead."""
        self.said: list[bytes] = []
        self.clock = Clock()
        self.recorders = [self._recorder(n) for n in (0, 1)]
        self.sweeps = [lab.relay(), lab.relay(), lab.sweeper(), lab.sweeper()]

    def _recorder(self, number: int) -> MortalRecorder:
        lab = self.lab
        name = f"recorder-{number}"
        return MortalRecorder(
            lab.engine,
            lab.redis,
            lease_seconds=30,
            consumer=name,
            told=lab.told,
            clock=self.clock,
        )

    def create(self) -> None:
        prediction = self.lab.insert(webhook="https://example.com/", events=["start", "completed"])
        self.predictions.append(prediction)
        if self.random.random() < 0.8:  # else the gateway is killed after the commit
            self.lab.enqueue(prediction)

    def claim(self) -> None:
        job = self.lab.claim(lease=self.random.choice([30, 30, -1]))
        if job is not None:
            self.held.append(job)

    def send(self) -> None:
        if self.held:
            self.lab.send(
                self.random.choice(["started", "heartbeat"]), self.random.choice(self.held)
            )

    def finish(self) -> None:
        """By whoever has the job still, or thinks so; the output tells who it was."""
        if self.held:
            job = self.random.choice(self.held)
            if self.random.random() < 0.7:
                self.held.remove(job)  # else it will finish again
            end = self.random.choice(["succeeded", "succeeded", "failed"])
            self.lab.send(end, job, output=job["token"], predict_time=0.1)
            self.lab.forget(job)

    def repeat(self) -> None:
        """An entry comes a second time."""
        entries = self.lab.redis.xrange(queues.events_key("ada_echo"))
        self.said += [fields[b"d"] for _, fields in entries if fields]
        if self.said:
            self.lab.send_raw(self.random.choice(self.said))

    def record(self) -> None:
        self.random.choice(self.recorders).step()

    def kill_recorder(self) -> None:
        number = self.random.randrange(2)
        self.recorders[number].doomed = True
        try:
            self.recorders[number].step()
        except Killed:
            self.recorders[number] = self._recorder(number)
        else:
            self.recorders[number].doomed = False

    def sweep(self) -> None:
        self.random.choice(self.sweeps).step()

    def lose_leases(self) -> None:
        self.lab.sql(
            "UPDATE predictions SET lease_until = now() - interval '1 second'"
            " WHERE status = 'processing' AND abs(hashtext(id::text)) % 3 = :third",
            third=self.random.randrange(3),
        )

    def flush(self) -> None:
        self.lab.redis.flushall()

    def cancel(self) -> None:
        if self.predictions:
            cancel(
                self.lab.engine,
                self.lab.redis,
                self.random.choice(self.predictions),
                ADA,
            )

    def miss_deadline(self) -> None:
        if self.predictions:
            prediction = self.random.choice(self.predictions)
            self.lab.sql(
                "UPDATE predictions SET deadline = now() WHERE id = :id AND completed_at IS NULL",
                id=prediction,
            )

    def act(self) -> None:
        actions = {
            self.create: 20,
            self.claim: 20,
            self.send: 15,
            self.finish: 20,
            self.repeat: 6,
            self.record: 15,
            self.kill_recorder: 5,
            self.sweep: 12,
            self.lose_leases: 2,
            self.flush: 1,
            self.cancel: 2,
            self.miss_deadline: 1,
        }
        (action,) = self.random.choices(list(actions), list(actions.values()))
        action()

    def settle(self) -> None:
        """Nobody dies any more."""
        for _ in range(60):
            while (job := self.lab.claim()) is not None:
                self.held.append(job)
            while self.held:
                self.finish()
            self.clock.now += 60  # They take over what was delivered to those that died.
            for recorder in self.recorders:
                recorder.step()
            self.lose_leases()
            for member, _ in self.lab.redis.zscan_iter(queues.in_flight_key("ada_echo")):
                self.lab.redis.zadd(queues.in_flight_key("ada_echo"), {member: 0})
            for sweep in self.sweeps:
                sweep.step()
            if not self.lab.sql("SELECT FROM predictions WHERE completed_at IS NULL"):
                return
        raise AssertionError(self.lab.sql("SELECT * FROM predictions WHERE completed_at IS NULL"))


@pytest.mark.parametrize("seed", range(4))
def test_every_prediction_ends_exactly_once(
    lab: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_BLOCK_MS", 1)
    monkeypatch.setattr(recorder_module, "_ADOPT_IDLE_MS", 0)
    lab.sql(AUDIT)
    world = World(lab, seed)
    for _ in range(350):
        world.act()
    world.settle()

    (count,) = lab.sql(
        "SELECT count(*), count(*) FILTER (WHERE status IN ('succeeded', 'failed', 'canceled'))"
        " AS ended FROM predictions"
    )
    assert count["count"] == count["ended"] == len(world.predictions) > 40
    assert lab.sql("SELECT prediction FROM ends GROUP BY 1 HAVING count(*) > 1") == []
    assert (
        lab.sql(
            "SELECT p.id FROM predictions p LEFT JOIN webhook_deliveries d"
            " ON d.prediction_id = p.id AND d.event = 'completed'"
            " GROUP BY 1 HAVING count(d.id) <> 1"
        )
        == []
    )
    # Who wrote the output is who held the row's token when it ended.
    stale = "SELECT id FROM predictions WHERE output IS NOT NULL AND output <> to_jsonb(token)"
    assert lab.sql(stale) == []
    assert lab.sql("SELECT id FROM predictions WHERE lease_until IS NOT NULL") == []
    assert lab.sql("SELECT id FROM predictions WHERE completed_at < created_at") == []
    statuses = {row["status"] for row in lab.sql("SELECT DISTINCT status FROM predictions")}
    assert "succeeded" in statuses
