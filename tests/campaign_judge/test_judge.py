"""The judge of a campaign finds each promise that is not kept, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cases import End
from judge import Evidence, Stored, judge
from ledger import Call, Claim, Death, Delivery, Ledger

GOOD = End("succeeded", "HELLO")
ROW = Stored("id-1", GOOD, "key-1", "hello", attempt=1, crashes=0)


class Campaign:
    """One prediction, as it should be: accepted, run, told, announced."""

    def __init__(self) -> None:
        self.call = Call(1, "quick", "hello", "key-1", webhook="fine", accepted={"id-1"})
        self.ledger = Ledger()
        self.ledger.call(self.call)
        self.ledger.claim(Claim("id-1", "get", GOOD))
        self.ledger.deliver(Delivery("webhook-1", "id-1", GOOD))
        self.evidence = Evidence(
            rows={"id-1": ROW},
            terminal_writes=Counter({"id-1": 1}),
            completed_deliveries=Counter({"id-1": 1}),
        )

    def row(self, **changes: Any) -> None:
        self.evidence.rows = {"id-1": replace(ROW, **changes)}

    def promises(self) -> set[int]:
        """The numbers of those that the judge finds broken."""
        return {violation.promise for violation in judge(self.evidence, self.ledger)}


def test_nothing_is_found_when_all_is_well() -> None:
    assert Campaign().promises() == set()


def _gone(it: Campaign) -> None:
    it.evidence.rows = {}


def _open(it: Campaign) -> None:
    it.row(end=End("processing"))
    it.ledger.claims.clear()
    it.ledger.deliveries[:] = [Delivery("webhook-1", "id-1", End("processing"))]


def _told_before_its_end(it: Campaign) -> None:
    it.row(end=End("processing"))


def _ended_twice(it: Campaign) -> None:
    it.evidence.terminal_writes["id-1"] = 2


def _deleted(it: Campaign) -> None:
    it.evidence.deleted = frozenset({"id-9"})


def _wrong_answer(it: Campaign) -> None:
    wrong = End("succeeded", "BYE")
    it.row(end=wrong)
    it.ledger.claims[:] = [Claim("id-1", "get", wrong)]
    it.ledger.deliveries[:] = [Delivery("webhook-1", "id-1", wrong)]


def _failed_without_a_reason(it: Campaign) -> None:
    end = End("failed", None, "runner_crashed")
    it.row(end=end, crashes=1)
    it.ledger.claims[:] = [Claim("id-1", "get", end)]
    it.ledger.deliveries.clear()
    it.call.webhook = None


def _canceled_by_nobody(it: Campaign) -> None:
    _failed_without_a_reason(it)
    it.row(end=End("canceled"))
    it.ledger.claims[:] = [Claim("id-1", "get", End("canceled"))]


def _no_end_of_crashes(it: Campaign) -> None:
    it.row(crashes=7)


def _crashed_while_no_runner_died(it: Campaign) -> None:
    it.row(crashes=1, created=10, ended=20)
    it.ledger.die(Death(5, 9))
    it.ledger.die(Death(21, 22))


def _ended_by_more_crashes_than_deaths(it: Campaign) -> None:
    _failed_without_a_reason(it)
    it.row(end=End("failed", None, "runner_crashed"), crashes=2)
    it.ledger.die(Death(1, 2))
    it.ledger.die(Death(3, 4))


def _announced_twice(it: Campaign) -> None:
    it.ledger.deliver(Delivery("webhook-2", "id-1", GOOD))


def _never_announced(it: Campaign) -> None:
    it.ledger.deliveries.clear()


def _two_deliveries(it: Campaign) -> None:
    it.evidence.completed_deliveries["id-1"] = 2


def _two_rows_under_a_key(it: Campaign) -> None:
    it.evidence.rows = {**it.evidence.rows, "id-2": replace(ROW, id="id-2")}


def _two_ids_for_a_key(it: Campaign) -> None:
    it.evidence.rows = {"id-1": ROW, "id-2": replace(ROW, id="id-2", key=None)}
    it.evidence.completed_deliveries["id-2"] = 1
    it.ledger.deliver(Delivery("webhook-2", "id-2", GOOD))
    it.call.accepted.add("id-2")


def _stored_after_all(it: Campaign) -> None:
    it.call.accepted.clear()
    it.call.nothing_stored = True


def _told_another_output(it: Campaign) -> None:
    it.ledger.claim(Claim("id-1", "wait", End("succeeded", "BYE")))


def _announced_another_output(it: Campaign) -> None:
    it.ledger.deliveries[:] = [Delivery("webhook-1", "id-1", End("succeeded", "BYE"))]


def _streamed_another_end(it: Campaign) -> None:
    it.ledger.claim(Claim("id-1", "stream", End("canceled"), compares="status"))


def _prints_are_lost(it: Campaign) -> None:
    it.call.case = "print"


def _complained(it: Campaign) -> None:
    it.ledger.complain("a bystander had to wait")


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_gone, 1),
        (_open, 1),
        (_told_before_its_end, 10),
        (_ended_twice, 2),
        (_deleted, 2),
        (_wrong_answer, 3),
        (_failed_without_a_reason, 3),
        (_canceled_by_nobody, 3),
        (_prints_are_lost, 3),
        (_no_end_of_crashes, 4),
        (_crashed_while_no_runner_died, 4),
        (_ended_by_more_crashes_than_deaths, 3),
        (_announced_twice, 5),
        (_never_announced, 5),
        (_two_deliveries, 5),
        (_two_rows_under_a_key, 6),
        (_two_ids_for_a_key, 6),
        (_stored_after_all, 10),
        (_told_another_output, 10),
        (_announced_another_output, 10),
        (_streamed_another_end, 10),
        (_complained, 11),
    ],
)
def test_a_broken_promise_is_found(broken: Callable[[Campaign], None], promise: int) -> None:
    campaign = Campaign()
    broken(campaign)
    assert promise in campaign.promises()


@pytest.mark.parametrize(
    "changes",
    [
        {"end": End("failed", None, "runner_crashed"), "crashes": 2, "created": 0, "ended": 9},
        {"end": End("canceled"), "cancel_requested": True},
    ],
)
def test_what_a_fault_or_the_caller_brought_about_is_right(changes: dict[str, object]) -> None:
    campaign = Campaign()
    campaign.row(**changes)
    for second in (0, 5, 9):
        campaign.ledger.die(Death(second - 1, second))
    campaign.ledger.claims.clear()
    campaign.ledger.deliveries.clear()
    campaign.call.webhook = None
    assert campaign.promises() == set()
