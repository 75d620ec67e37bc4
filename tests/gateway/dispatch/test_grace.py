"""Redis was away: runners that live could not say so, and none counts as dead for a lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from inference_gateway.dispatch.grace import Grace

LEASE = 30.0
END_LEASE = "UPDATE predictions SET lease_until = now() - interval '1 second'"


class Outage:
    """Stands for a Redis that can go away, and for the time."""

    def __init__(self) -> None:
        self.is_away = False
        self.now = 0.0
        self.grace = Grace(self, LEASE, lambda: self.now)  # type: ignore[arg-type]

    def strike(self, judge: Any, rounds: int = 1) -> None:
        """Redis is away for so many of the judge's rounds."""
        self.is_away = True
        for _ in range(rounds):
            with pytest.raises(redis.ConnectionError):
                judge.step()
            self.now += 100
        self.is_away = False

    def ping(self) -> bool:
        if self.is_away:
            raise redis.ConnectionError("away")
        return True


@pytest.fixture
def outage() -> Outage:
    return Outage()


def begun(lab: Any) -> str:
    """Its runner has said so, and nothing since."""
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.say("started", lab.claim())
    lab.record()
    lab.sql(END_LEASE)
    return str(prediction)


def claimed(lab: Any) -> str:
    """Its runner has said nothing yet."""
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.claim(lease=-1)
    return str(prediction)


@pytest.mark.parametrize(
    ("prepare", "who"), [(begun, "sweeper"), (claimed, "relay")], ids=["sweeper", "relay"]
)
def test_no_runner_counts_as_dead(
    lab: Any, outage: Outage, prepare: Callable[[Any], str], who: str
) -> None:
    judge = getattr(lab, who)(grace=outage.grace)
    prediction = prepare(lab)
    outage.strike(judge, rounds=2)
    for _ in range(3):
        judge.step()
        assert lab.row(prediction)["attempt"] == 1
        outage.now += LEASE / 3
    judge.step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 1)


def test_a_deadline_is_kept(lab: Any, outage: Outage) -> None:
    sweeper = lab.sweeper(grace=outage.grace)
    prediction = begun(lab)
    lab.sql("UPDATE predictions SET deadline = now() - interval '1 second'")
    outage.strike(sweeper)
    sweeper.step()
    row = lab.row(prediction)
    assert (row["status"], row["error_code"]) == ("canceled", "deadline_exceeded")


def test_what_was_lost_is_handed_out_at_once(lab: Any, outage: Outage) -> None:
    relay = lab.relay(grace=outage.grace)
    prediction = lab.insert()
    outage.strike(relay)
    relay.step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 0)
