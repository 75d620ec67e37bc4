from __future__ import annotations

from typing import Any

import pytest

from inference_gateway.dispatch.recording.event_batch import Entry, RowChange, fold

A = "00000000-0000-7000-8000-00000000000a"
B = "00000000-0000-7000-8000-00000000000b"


def event(type: str, id: str = A, attempt: int = 1, token: str = "t", **fields: Any) -> Any:
    return {"type": type, "id": id, "attempt": attempt, "token": token, **fields}


@pytest.mark.parametrize(
    ("entries", "changes"),
    [
        ([], []),
        (
            [Entry(100, [event("started")])],
            [RowChange(A, 1, "t", started_ms=100, events=["start"])],
        ),
        ([Entry(100, [event("heartbeat")])], [RowChange(A, 1, "t")]),
        ([Entry(100, [event("returned")])], [RowChange(A, 1, "t", "starting")]),
        (
            [Entry(100, [event("returned", suspect=True)])],
            [RowChange(A, 1, "t", "starting", crashes=1)],
        ),
        (
            [Entry(100, [event("started")]), Entry(900, [event("heartbeat")])],
            [RowChange(A, 1, "t", started_ms=100, events=["start"])],
        ),
        (
            [Entry(100, [event("output", output="a")]), Entry(900, [event("output", output="ab")])],
            [RowChange(A, 1, "t", output="ab", events=["output"])],
        ),
        (
            [Entry(100, [event("logs", logs="x\n")])],
            [RowChange(A, 1, "t", logs="x\n", events=["logs"])],
        ),
        (
            [
                Entry(100, [event("started")]),
                Entry(3100, [event("succeeded", output=[1], predict_time=2.5, metrics={"n": 3})]),
            ],
            [
                RowChange(
                    *(A, 1, "t", "succeeded"),
                    started_ms=600.0,
                    ended_ms=3100,
                    output=[1],
                    metrics={"n": 3, "predict_time": 2.5},
                    events=["start", "completed"],
                )
            ],
        ),
        (
            [Entry(100, [event("failed", error="no", error_code="model_error")])],
            [
                RowChange(
                    *(A, 1, "t", "failed"),
                    ended_ms=100,
                    error="no",
                    error_code="model_error",
                    events=["completed"],
                )
            ],
        ),
        (  # the first end counts, and nothing after it
            [
                Entry(100, [event("canceled")]),
                Entry(101, [event("succeeded", output=1), event("output", output=2)]),
            ],
            [RowChange(A, 1, "t", "canceled", ended_ms=100, events=["completed"])],
        ),
        (  # attempts and tokens are kept apart; sorted by id
            [
                Entry(1, [event("heartbeat", B), event("heartbeat", A, token="u")]),
                Entry(2, [event("heartbeat", A, attempt=2)]),
            ],
            [RowChange(A, 1, "u"), RowChange(A, 2, "t"), RowChange(B, 1, "t")],
        ),
    ],
)
def test_fold(entries: list[Entry], changes: list[RowChange]) -> None:
    assert fold(entries) == changes
