from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from lossy_redis import LossyRedis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.exc import DBAPIError

from inference_contract import queues
from inference_gateway.dispatch.recording import apply_changes, streams
from inference_gateway.dispatch.recording.event_batch import RowChange
from inference_gateway.dispatch.recording.recorder import Recorder
from inference_gateway.dispatch.recording.streams import trim_before

HOOK = "https://example.com/hook"


def moment(entry_id: str) -> datetime:
    return datetime.fromtimestamp(int(entry_id.split("-")[0]) / 1000, UTC)


def test_started_gives_a_lease_by_the_databases_clock(lab: Any) -> None:
    prediction = lab.insert()
    said = lab.send("started", prediction)
    lab.record()
    row = lab.row(prediction)
    assert row["status"] == "processing"
    assert row["started_at"] == moment(said)
    (left,) = lab.sql("SELECT lease_until - now() AS left FROM predictions")
    assert timedelta(seconds=25) < left["left"] < timedelta(seconds=30)


def test_a_heartbeat_renews_the_lease_and_nothing_else(lab: Any) -> None:
    prediction = lab.insert()
    lab.send("started", prediction)
    lab.record()
    before = lab.row(prediction)
    lab.send("heartbeat", prediction)
    lab.record()
    after = lab.row(prediction)
    assert after.pop("lease_until") > before.pop("lease_until")
    assert after == before


@pytest.mark.parametrize(("more", "crashes"), [({}, 0), ({"suspect": True}, 1)])
def test_what_a_runner_gives_back_waits_again(lab: Any, more: dict[str, Any], crashes: int) -> None:
    prediction = lab.insert()
    lab.send("started", prediction)
    lab.record()
    lab.send("returned", prediction, **more)
    lab.record()
    row = lab.row(prediction)
    assert (row["status"], row["lease_until"], row["crashes"]) == ("starting", None, crashes)


def test_the_end_is_recorded_by_redis_clock(lab: Any) -> None:
    prediction = lab.insert()
    said = lab.send(
        "succeeded", prediction, output={"a": 1}, logs="l", predict_time=2.5, metrics={"n": 7}
    )
    lab.record()
    row = lab.row(prediction)
    assert row["completed_at"] == moment(said)
    assert row["completed_at"] - row["started_at"] == timedelta(seconds=2.5)
    wanted = {
        "status": "succeeded",
        "output": {"a": 1},
        "logs": "l",
        "metrics": {"n": 7, "predict_time": 2.5},
        "lease_until": None,
        "error": None,
    }
    assert {key: row[key] for key in wanted} == wanted


def test_no_time_lies_before_the_creation(lab: Any) -> None:
    prediction = lab.insert(age=-3600)
    lab.send("succeeded", prediction, predict_time=10)
    lab.record()
    row = lab.row(prediction)
    assert row["started_at"] == row["completed_at"] == row["created_at"]


@pytest.mark.parametrize(("attempt", "token"), [(1, "another"), (2, "token-1"), (2, "another")])
def test_a_stale_attempt_changes_nothing(lab: Any, attempt: int, token: str) -> None:
    prediction = lab.insert(webhook=HOOK)
    before = lab.row(prediction)
    lab.send("succeeded", {"id": prediction, "attempt": attempt, "token": token}, output="stale")
    lab.record()
    assert lab.row(prediction) == before
    assert lab.told_of(prediction) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (None, ["completed"]),
        (["completed"], ["completed"]),
        (["start", "completed"], ["completed", "start"]),
        (["output"], ["output"]),
        (["logs"], []),
        ([], []),
    ],
)
def test_the_filter_says_what_a_webhook_is_told(
    lab: Any, wanted: list[str] | None, told: list[str]
) -> None:
    prediction = lab.insert(webhook=HOOK, events=wanted)
    recorder = lab.recorder()
    for said in ("started", "output", "output", "succeeded"):
        lab.send(said, prediction, output="x")
        lab.record(recorder)
    assert lab.told_of(prediction) == told
    assert lab.told.is_set() == bool(told)


def test_without_a_webhook_nobody_is_told(lab: Any) -> None:
    prediction = lab.insert(events=["start", "completed"])
    lab.send("succeeded", prediction, predict_time=1)
    lab.record()
    assert lab.told_of(prediction) == []


def test_killed_between_writing_and_acknowledging_it_writes_once(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = lab.insert(webhook=HOOK)
    lab.enqueue(prediction)  # rings the doorbell
    lab.send("succeeded", prediction, output=1)
    with monkeypatch.context() as patch:
        patch.setattr(
            "inference_gateway.dispatch.recording.recorder.Recorder._acknowledge", _killed
        )
        with pytest.raises(SystemExit):
            lab.record()
    first = lab.row(prediction)
    lab.record(lab.recorder())
    assert lab.row(prediction) == first
    assert lab.told_of(prediction) == ["completed"]
    assert lab.redis.xpending("ada_echo:events", "recorder")["pending"] == 0


def _killed(*_: object, **__: object) -> None:
    raise SystemExit


def test_what_a_dead_recorder_read_is_adopted(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_gateway.dispatch.recording.recorder._ADOPT_IDLE_MS", 0)
    prediction = lab.insert()
    lab.send("succeeded", prediction)
    streams.ensure_groups(lab.redis, ["ada_echo"])
    lab.redis.xreadgroup("recorder", "dead", {"ada_echo:events": ">"})
    lab.record(lab.recorder("alive"))
    assert lab.row(prediction)["status"] == "succeeded"


@pytest.fixture
def lossy(lab: Any, tmp_path: Path) -> Iterator[LossyRedis]:
    way = LossyRedis(lab.url.removeprefix("unix://"), str(tmp_path / "redis"))
    yield way
    way.close()


@pytest.mark.parametrize("retries", [0, 3])
def test_entries_whose_delivery_was_not_heard_are_read_again_at_once(
    lab: Any, lossy: LossyRedis, tmp_path: Path, retries: int
) -> None:
    """They are nobody else's for half a minute."""
    url, retry = f"unix://{tmp_path / 'redis'}", Retry(NoBackoff(), retries)
    with redis.Redis.from_url(url, retry=retry) as client:
        recorder = Recorder(
            lab.engine, client, lease_seconds=30, consumer="one", told=threading.Event()
        )
        first, second, third = (lab.insert() for _ in range(3))
        lab.send("succeeded", first)
        lab.record(recorder)
        lab.send("succeeded", second)
        lossy.loses = b"XREADGROUP"
        with pytest.raises(redis.ConnectionError):
            recorder.step()
        assert lossy.lost == 1
        lab.send("succeeded", third)
        recorder.step()
    assert lab.row(second)["status"] == lab.row(third)["status"] == "succeeded"


def test_what_is_adopted_is_read_at_once_though_that_was_not_heard(
    lab: Any, lossy: LossyRedis, tmp_path: Path
) -> None:
    prediction = lab.insert()
    lab.send("succeeded", prediction)
    streams.ensure_groups(lab.redis, ["ada_echo"])
    [[stream, [(entry, _)]]] = lab.redis.xreadgroup("recorder", "dead", {"ada_echo:events": ">"})
    lab.redis.xclaim(stream, "recorder", "dead", 0, [entry], idle=60_000, justid=True)
    with redis.Redis.from_url(f"unix://{tmp_path / 'redis'}") as client:
        recorder = Recorder(
            lab.engine, client, lease_seconds=30, consumer="one", told=threading.Event()
        )
        lossy.loses = b"XAUTOCLAIM"
        with pytest.raises(redis.ConnectionError):
            recorder.step()
        lab.record(recorder)
    assert lossy.lost == 1
    assert lab.row(prediction)["status"] == "succeeded"


def test_a_wiped_redis_is_read_from_its_start(lab: Any) -> None:
    recorder = lab.recorder()
    first, second = lab.insert(), lab.insert()
    lab.send("succeeded", first)
    lab.record(recorder)
    lab.redis.flushall()
    lab.send("succeeded", second)
    lab.record(recorder)
    assert lab.row(second)["status"] == "succeeded"


def test_an_entry_that_holds_no_events_is_dropped(lab: Any) -> None:
    prediction = lab.insert()
    lab.send_raw(b"nonsense")
    lab.send("succeeded", prediction)
    lab.record()
    assert lab.row(prediction)["status"] == "succeeded"


def test_one_output_that_cannot_be_stored_holds_up_no_other(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = [lab.insert(webhook=HOOK) for _ in range(5)]
    bad = predictions[2]
    # What jsonb refuses the parser does: let one through.
    monkeypatch.setattr("inference_gateway.dispatch.recording.events._wrong", lambda *_: None)
    for prediction in predictions:
        lab.send("succeeded", prediction, output="\0" if prediction == bad else "fine")
    lab.record()
    rows = {prediction: lab.row(prediction) for prediction in predictions}
    assert rows[bad]["status"] == "failed"
    assert rows[bad]["error_code"] == "invalid_output"
    assert "stored" in rows[bad]["error"]
    assert {row["status"] for key, row in rows.items() if key != bad} == {"succeeded"}
    assert all(lab.told_of(prediction) == ["completed"] for prediction in predictions)


def test_a_terminal_row_refuses_every_update(lab: Any) -> None:
    prediction = lab.insert()
    lab.send("succeeded", prediction)
    lab.record()
    for change in ("status = 'failed'", "output = '1'", "status = 'succeeded'"):
        with pytest.raises(DBAPIError, match="has ended"):
            lab.sql(f"UPDATE predictions SET {change} WHERE id = :id", id=prediction)


def test_models_with_open_rows_are_found_without_a_doorbell(lab: Any) -> None:
    for model in ("ada/echo", "ada/other", "bob/echo"):
        lab.insert(model=model)
        lab.insert(model=model)
    keys = streams.StreamKeys(lab.engine, lab.redis)
    assert keys.refresh() == {"ada_echo", "ada_other", "bob_echo"}
    assert keys.refresh() == set()


def test_the_doorbell_is_heard(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_ASK_DOORBELL_EVERY", 0)
    keys = streams.StreamKeys(lab.engine, lab.redis)
    assert keys.refresh() == set()
    lab.enqueue(str(uuid.uuid4()))
    assert keys.refresh() == {"ada_echo"}


@pytest.mark.parametrize(
    ("delivered", "pending", "first"),
    [
        (["90000-5"], None, "90000-5"),
        (["99000-0"], None, "95000-0"),
        (["99000-0", "80000-1"], None, "80000-1"),
        (["99000-0"], "94000-3", "94000-3"),
        (["0-0"], None, "0-0"),
    ],
)
def test_trim_before(delivered: list[str], pending: str | None, first: str) -> None:
    ids = [entry_id.encode() for entry_id in delivered]
    assert trim_before(100_000, ids, pending.encode() if pending else None) == first


def test_old_acknowledged_entries_are_trimmed(lab: Any) -> None:
    stream = queues.events_key("ada_echo")
    data = orjson.dumps([])
    for number in range(500):
        lab.redis.xadd(stream, {"d": data}, id=f"{1000 + number}-0")
    fresh = lab.send_raw(data)
    streams.ensure_groups(lab.redis, ["ada_echo"])
    lab.redis.xreadgroup("recorder", "one", {stream: ">"}, count=300)
    lab.redis.xack(stream, "recorder", *[f"{1000 + number}-0" for number in range(250)])
    streams.trim(lab.redis, ["ada_echo"])
    left = [entry_id.decode() for entry_id, _ in lab.redis.xrange(stream)]
    assert "1250-0" in left
    assert fresh in left
    assert 251 <= len(left) <= 351


@pytest.fixture
def told(lab: Any) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """All that those who wait were told since the last call."""
    with lab.redis.pubsub() as channel:
        channel.subscribe(queues.ENDED)
        channel.get_message(timeout=5)

        def heard() -> list[dict[str, Any]]:
            lab.redis.publish(queues.ENDED, "null")
            found = []
            while (message := json.loads(channel.get_message(timeout=5)["data"])) is not None:
                found.append(message)
            return found

        yield heard


def _ended(lab: Any, **fields: Any) -> str:
    prediction = str(lab.insert())
    lab.enqueue(prediction)
    lab.send("succeeded", prediction, **fields)
    return prediction


def test_those_who_wait_are_told_what_is_committed(lab: Any, told: Any) -> None:
    small, large = _ended(lab, output=["HI"], error="e"), _ended(lab, output="x" * 10_000)
    forged = str(lab.insert())
    lab.send("succeeded", {"id": forged, "attempt": 1, "token": "guessed"}, output="forged")
    running = str(lab.insert())
    lab.send("started", running)
    lab.record()
    first, *rest = told()
    assert first[large] is None
    assert (first[small]["status"], first[small]["output"]) == ("succeeded", ["HI"])
    row = lab.row(small)
    assert datetime.fromisoformat(first[small]["completed_at"]) == row["completed_at"]
    assert set(first) == {small, large}
    # Of what met no row it is only said that somebody should look.
    assert [set(message.values()) for message in rest] == [{None}]


def test_a_batch_in_which_some_have_webhooks_is_told_of_once(lab: Any, told: Any) -> None:
    plain, hooked, other = str(lab.insert()), lab.insert(webhook=HOOK), str(lab.insert())
    for prediction in (plain, hooked, other):
        lab.send("succeeded", prediction, output=prediction)
    lab.record()
    (message,) = told()
    assert {key: end["output"] for key, end in message.items()} == {
        prediction: prediction for prediction in (plain, hooked, other)
    }
    assert lab.told_of(hooked) == ["completed"]
    assert lab.told_of(plain) == lab.told_of(other) == []
    assert lab.told.is_set()


def test_what_cannot_be_stored_fails_alone_beside_webhooks(lab: Any) -> None:
    plain, hooked, bad, worse = (lab.insert(webhook=hook) for hook in (None, HOOK, HOOK, None))
    changes = [
        RowChange(p, 1, "token-1", "succeeded", ended_ms=1, output=output, events=["completed"])
        for p, output in ((plain, 1), (hooked, 1), (bad, "\0"), (worse, "\0"))
    ]
    recorded = apply_changes.Recording(lab.engine, 30).apply(changes)
    assert (recorded.applied, recorded.stale, recorded.has_told) == (4, 0, True)
    states = [lab.row(prediction)["status"] for prediction in (plain, hooked, bad, worse)]
    assert states == ["succeeded", "succeeded", "failed", "failed"]
    assert lab.told_of(hooked) == lab.told_of(bad) == ["completed"]


def test_what_was_recorded_before_a_death_is_told_after_it(lab: Any, told: Any) -> None:
    prediction = _ended(lab, output="HI")
    first = lab.recorder()
    streams.ensure_groups(lab.redis, ["ada_echo"])
    lab.redis.xreadgroup("recorder", "one", {"ada_echo:events": ">"})
    change = RowChange(prediction, 1, "token-1", "succeeded", ended_ms=1, output="HI")
    assert apply_changes.Recording(lab.engine, 30).apply([change]).applied == 1  # And now it dies.
    lab.record(first)
    assert told() == [{prediction: None}]


def test_while_nobody_waits_batches_grow_and_nobody_is_told_how_they_ended(lab: Any) -> None:
    recorder = lab.recorder()
    _ended(lab, output="HI")
    lab.record(recorder)
    _ended(lab, output="HI")
    assert recorder.step() > 0
    with lab.redis.pubsub() as channel:
        channel.subscribe(queues.ENDED)
        channel.get_message(timeout=5)
        prediction = _ended(lab, output="HI")
        assert recorder.step() == 0, "somebody heard it"
        assert json.loads(channel.get_message(timeout=5)["data"]) == {prediction: None}
        prediction = _ended(lab, output="HI")
        recorder.step()
        message = json.loads(channel.get_message(timeout=5)["data"])
        assert message[prediction]["output"] == "HI"


@pytest.mark.parametrize("statement", [apply_changes.RECORD, apply_changes.RECORD_AND_TELL])
@pytest.mark.parametrize("rows", [0, 20_000])
def test_the_plan_looks_rows_up_in_the_primary_key(lab: Any, rows: int, statement: str) -> None:
    lab.sql(
        "INSERT INTO predictions (id, owner, model, version, status, token, input, deadline,"
        " completed_at) SELECT gen_random_uuid(), md5('u' || i % 50)::uuid, 'o/m' || i % 50, '1',"
        " CASE WHEN i % 10 = 0 THEN 'starting' ELSE 'succeeded' END, '', '{}', now(),"
        " CASE WHEN i % 10 = 0 THEN NULL ELSE now() END FROM generate_series(1, :rows) i",
        rows=rows,
    )
    if rows:
        lab.sql("ANALYZE predictions")
    prediction = str(uuid.uuid4())
    changes = orjson.dumps([RowChange(prediction, 1, "t")]).decode()
    parameters = (changes, f"{{{prediction}}}", 1, True)
    with lab.engine.begin() as connection:
        connection.exec_driver_sql(apply_changes.PREPARE)
        explained = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(explained.scalars())
    assert "predictions_pkey" in plan
    assert "predictions_open_idx" not in plan
    assert "predictions_owner_id_idx" not in plan
    assert "pending_idx" not in plan
    assert "Seq Scan on predictions" not in plan
