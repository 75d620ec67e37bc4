"""Whether the promises were kept: pure, from what the database holds and what the ledger heard.

The numbers are those of `docs/campaign.md`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from cases import BY_NAME, End
from ledger import Call, Claim, Ledger


@dataclass(frozen=True)
class Stored:
    """A row of `predictions` at the end."""

    id: str
    end: End
    key: str | None
    text: str
    attempt: int
    crashes: int
    logs: str = ""
    cancel_requested: bool = False
    deadline_passed: bool = False
    created: float = -inf
    """Unix seconds."""
    ended: float = inf


@dataclass
class Evidence:
    rows: Mapping[str, Stored]
    """By id."""
    terminal_writes: Counter[str] = field(default_factory=Counter)
    """Id → how often a row became terminal."""
    deleted: frozenset[str] = frozenset()
    """Ids of rows that were deleted."""
    completed_deliveries: Counter[str] = field(default_factory=Counter)
    """Id → rows of `webhook_deliveries` that tell of its end."""
    max_attempts: int = 3


@dataclass(frozen=True)
class Violation:
    promise: int
    what: str

    def __str__(self) -> str:
        return f"promise {self.promise}: {self.what}"


def judge(evidence: Evidence, ledger: Ledger) -> list[Violation]:
    """All violations of promises."""
    return [
        *_accepted_and_ended(evidence, ledger),
        *_final(evidence),
        *_right_ends(evidence, ledger),
        *_webhooks(evidence, ledger),
        *_idempotency(evidence, ledger),
        *_told_is_stored(evidence, ledger),
        *(Violation(11, what) for what in ledger.complaints),
    ]


def _accepted_and_ended(evidence: Evidence, ledger: Ledger) -> Iterator[Violation]:
    for call in ledger.calls:
        for accepted in call.accepted:
            row = evidence.rows.get(accepted)
            if row is None:
                yield Violation(1, f"{accepted} was accepted ({call.case}), and is gone")
            elif row.end.status not in {"succeeded", "failed", "canceled"}:
                yield Violation(1, f"{accepted} ({call.case}) has not ended: {row.end.status}")


def _final(evidence: Evidence) -> Iterator[Violation]:
    for prediction, times in evidence.terminal_writes.items():
        if times > 1:
            yield Violation(2, f"{prediction} ended {times} times")
    for prediction in evidence.deleted:
        yield Violation(2, f"{prediction} was deleted")


def _right_ends(evidence: Evidence, ledger: Ledger) -> Iterator[Violation]:
    for call in ledger.calls:
        for accepted in call.accepted:
            row = evidence.rows.get(accepted)
            if row is None:
                continue
            deaths = _deaths(call, row, ledger)
            if row.crashes > min(evidence.max_attempts, deaths):
                of = f"while {deaths:g} runners were ended" if deaths < inf else ""
                yield Violation(4, f"{accepted} ({call.case}) crashed {row.crashes} times {of}")
            if not _is_right(call, row, evidence.max_attempts, deaths):
                yield Violation(3, f"{accepted} ({call.case}, {call.text!r}): {_short(row)}")
            if call.case == "print" and row.end.status == "succeeded" and call.text not in row.logs:
                yield Violation(3, f"{accepted} printed, and its logs are {row.logs[:80]!r}")


def _deaths(call: Call, row: Stored, ledger: Ledger) -> float:
    """How often at most a runner may have died of it, or beside it, or under it."""
    if BY_NAME[call.case].do == "die":
        return inf
    return sum(death.began <= row.ended and row.created <= death.ended for death in ledger.deaths)


def _is_right(call: Call, row: Stored, max_attempts: int, deaths: float) -> bool:
    case, end = BY_NAME[call.case], row.end
    if case.right(call.text, end):
        return True
    if end.status == "canceled":
        return row.cancel_requested or (case.cancel_after is not None and row.deadline_passed)
    # The row counts those that another attempt followed.
    return end.error_code == "runner_crashed" and max_attempts <= row.crashes + 1 <= deaths


def _webhooks(evidence: Evidence, ledger: Ledger) -> Iterator[Violation]:
    heard = defaultdict(set)
    for delivery in ledger.deliveries:
        heard[delivery.prediction].add(delivery.webhook_id)
    for call in ledger.calls:
        if call.webhook is None:
            continue
        for accepted in call.accepted & evidence.rows.keys():
            made = evidence.completed_deliveries[accepted]
            if made != 1:
                yield Violation(5, f"{accepted} has {made} deliveries of its end")
            if call.webhook != "gone" and len(heard[accepted]) != 1:
                ids = len(heard[accepted])
                yield Violation(5, f"{accepted} ({call.webhook}) was told under {ids} webhook ids")


def _idempotency(evidence: Evidence, ledger: Ledger) -> Iterator[Violation]:
    keys = Counter(row.key for row in evidence.rows.values() if row.key is not None)
    for key, count in keys.items():
        if count > 1:
            yield Violation(6, f"{count} rows under the key {key}")
    texts = defaultdict(list)
    for row in evidence.rows.values():
        texts[row.text].append(row.id)
    for call in ledger.calls:
        if len(call.accepted) > 1:
            yield Violation(6, f"{call.key} was answered with {sorted(call.accepted)}")
        if call.nothing_stored and texts[call.text]:
            yield Violation(10, f"said that nothing was stored, and {texts[call.text]} is there")


def _told_is_stored(evidence: Evidence, ledger: Ledger) -> Iterator[Violation]:
    webhooks = [Claim(d.prediction, "webhook", d.end) for d in ledger.deliveries]
    for claim in [*ledger.claims, *webhooks]:
        row = evidence.rows.get(claim.prediction)
        if row is None:
            continue  # Promise 1 says so.
        same = claim.end.status == row.end.status
        if claim.compares == "all":
            same = same and claim.end.output == row.end.output
        if not same:
            told = f"{claim.end.status} {str(claim.end.output)[:80]}"
            yield Violation(10, f"{claim.prediction}: {claim.source} said {told}, is {_short(row)}")


def _short(row: Stored) -> str:
    end = row.end
    tries = f"attempt {row.attempt}, {row.crashes} crashes"
    return f"{end.status} {end.error_code or ''} {str(end.output)[:80]} ({tries})"
