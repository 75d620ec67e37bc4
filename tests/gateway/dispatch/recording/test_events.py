"""The parser of runners' events: whatever they say is an event that can be recorded, or refused."""

from __future__ import annotations

import math
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inference_contract import values
from inference_contract.predictions import EventType
from inference_gateway.dispatch.recording.event_batch import Entry, fold
from inference_gateway.dispatch.recording.events import Parsed, parse

A = "00000000-0000-7000-8000-00000000000a"


def event(type: Any, id: Any = A, attempt: Any = 1, token: Any = "t", **fields: Any) -> Any:
    return {"type": type, "id": id, "attempt": attempt, "token": token, **fields}


def said(raw: str) -> bytes:
    """A `succeeded` event with a field in JSON of its own."""
    return b"[" + orjson.dumps(event("succeeded"))[:-1] + b"," + raw.encode() + b"}]"


@pytest.mark.parametrize("type", EventType)
def test_events_stay_as_they_are(type: EventType) -> None:
    told = event(type.value, output=[{"a": 1e30}], logs="l\n", predict_time=2, metrics={"n": 1.5})
    assert parse(orjson.dumps([told])) == Parsed([told])


@pytest.mark.parametrize("field", ["output", "logs", "error", "predict_time", "metrics"])
def test_null_is_as_if_it_were_not_there(field: str) -> None:
    told = event("failed", **{field: None})
    assert parse(orjson.dumps([told])) == Parsed([told])


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"1", b"\xff", b"[" * 100_000, b'["\\ud800"]', b"[NaN]", b'["\x00"]'),
        said('"predict_time": 1e400'),
        said('"output": "\\ud800"'),
        said('"output": Infinity'),
    ],
)
def test_what_is_no_json_array_is_refused_whole(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the subclasses have messages of their own
        parse(data)


NO_TOKENS: tuple[object, ...] = (None, 1, [], "t\0", "t" * 1000)


@pytest.mark.parametrize(
    "item",
    [
        *(1, None, [], "x", {}),
        *(event("exploded"), event([]), event({}), event(None)),
        *(event("started", id="7"), event("started", id=A + "'"), event("started", id=[A])),
        *(event("started", attempt=n) for n in (0, -1, 2**31, 2**64 - 1, True, 1.0, "1", None)),
        *(event("started", token=t) for t in NO_TOKENS),
    ],
)
def test_what_does_not_bear_the_fence_is_counted_and_the_others_are_heard(item: Any) -> None:
    fine = event("succeeded", output=1)
    assert parse(orjson.dumps([item, fine])) == Parsed([fine], refused=1)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('"predict_time": -1', "predict_time"),
        ('"predict_time": -1e-9', "predict_time"),
        ('"predict_time": 1e300', "predict_time"),
        ('"predict_time": true', "predict_time"),
        ('"predict_time": "fast"', "predict_time"),
        ('"metrics": 3', "metrics"),
        ('"metrics": [1]', "metrics"),
        ('"logs": []', "logs"),
        ('"error": 7', "error"),
        ('"error_code": "NO SUCH"', "error_code"),
        ('"error_code": {}', "error_code"),
        ('"output": "a\\u0000b"', "U+0000"),
        ('"output": {"k\\u0000": 1}', "U+0000"),
        ('"logs": "\\u0000"', "U+0000"),
        ('"output": ' + "[" * 253 + "]" * 253, "nested"),
        ('"metrics": {"n": ' + "[" * 90 + "]" * 90 + "}", "nested"),
        ('"output": ' + '{"a":' * 65 + "1" + "}" * 65, "nested"),
    ],
)
def test_an_event_that_cannot_be_recorded_ends_its_prediction(raw: str, message: str) -> None:
    (ended,), refused = parse(said(raw))
    assert refused == 0
    assert {key: ended[key] for key in ("id", "attempt", "token")} == {
        "id": A,
        "attempt": 1,
        "token": "t",
    }
    assert (ended["type"], ended["error_code"]) == ("failed", "invalid_output")
    assert message in ended["error"]


def test_what_only_looks_like_u0000_is_text() -> None:
    (told,), _ = parse(said('"output": "a\\\\u0000b"'))
    assert told["output"] == "a\\u0000b"


_TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=10,
)
_TYPES = st.sampled_from([*(t.value for t in EventType), "exploded"])
_FIELDS = st.fixed_dictionaries(
    {"type": _TYPES | _JSON, "id": st.just(A) | _JSON, "attempt": st.just(1) | _JSON},
    optional={
        "token": st.just("t") | _JSON,
        "output": _JSON | st.integers(0, 300).map(lambda depth: _deep(depth)),
        **dict.fromkeys(("logs", "error", "error_code", "metrics", "streamed"), _JSON),
        "predict_time": st.floats() | st.integers() | _JSON,
    },
)


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _encoded(value: Any) -> bytes:
    """Also what is no JSON: NaN, halves of surrogate pairs, endless integers."""
    import json

    return json.dumps(value).encode()


@given(st.binary() | (st.lists(_FIELDS | _JSON, max_size=4) | _JSON).map(_encoded))
@example(_encoded([event("succeeded", output=math.nan)]))
@example(_encoded([event("succeeded", predict_time=10**400)]))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_nothing_but_events_or_a_refusal_comes_out(data: bytes) -> None:
    try:
        parsed = parse(data)
    except ValueError:
        return
    for told in parsed.events:
        values.check(told)
        assert told["type"] in set(EventType)
    assert len(parsed.events) + parsed.refused == len(orjson.loads(data))
    orjson.dumps(fold([Entry(2**64 - 1, parsed.events)]))


def test_postgresql_stores_whatever_passes(lab: Any) -> None:
    recorder = lab.recorder()

    @given(st.lists(_FIELDS, min_size=1, max_size=3), st.integers(0, 2**64 - 1))
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    def stored(events: list[dict[str, Any]], ms: int) -> None:
        prediction = str(uuid.uuid4())
        lab.insert(id=prediction)
        said = [{**e, "id": prediction, "attempt": 1, "token": "token-1"} for e in events]
        fine = lab.insert()
        lab.send_raw(_encoded(said))
        lab.send("succeeded", fine, output="fine")
        lab.record(recorder)
        assert lab.row(fine)["output"] == "fine"
        row = lab.row(prediction)
        assert row["error"] is None or "cannot be stored" not in row["error"]

    stored()
