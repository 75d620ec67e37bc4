from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference_gateway.dispatch.fold import Entry, RowChange, fold, parse

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
        (  # of the wrong type: as if it were not there
            [Entry(5, [event("failed", error=7, logs=[], metrics=3, predict_time="fast")])],
            [RowChange(A, 1, "t", "failed", ended_ms=5, events=["completed"])],
        ),
    ],
)
def test_fold(entries: list[Entry], changes: list[RowChange]) -> None:
    assert fold(entries) == changes


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (r'"a\u0000b"', "a\ufffdb"),
        (r'{"k\u0000": ["\u0000"]}', {"k\ufffd": ["\ufffd"]}),
        (r'"a\ud800b"', "a\ufffdb"),
        (r'"\ud83d\ude00"', "😀"),
        ('"a\x00b"', "a\ufffdb"),
        (r'"a\\u0000b"', r"a\u0000b"),
    ],
)
def test_text_that_postgresql_refuses_is_replaced(raw: str, clean: Any) -> None:
    head = orjson.dumps(event("output"))[:-1]
    (parsed,) = parse(b"[" + head + b',"output":' + raw.encode() + b"}]")
    assert parsed["output"] == clean


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b"\xff",
        orjson.dumps([event("exploded")]),
        orjson.dumps([event("started", id="7")]),
        orjson.dumps([event("started", id=A + "'")]),
        orjson.dumps([event("started", attempt=2**31)]),
        orjson.dumps([event("started", attempt=True)]),
        orjson.dumps([event("started", token=None)]),
    ],
)
def test_what_is_not_an_event_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the subclasses have messages of their own
        parse(data)
