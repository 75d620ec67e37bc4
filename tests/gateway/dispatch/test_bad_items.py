"""Each loop is fed what the API would never let in: it puts that aside, and serves the others."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

import orjson
import pytest

from inference_contract import queues
from inference_gateway.dispatch.recording.streams import StreamKeys, ensure_groups, trim

HOOK = "https://example.com/hook"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "fields",
    [
        *(f'"output": {nested(depth)}' for depth in (65, 240, 251, 252, 253, 254, 1000)),
        *(f'"predict_time": {number}' for number in ("-1", "true", "1e300", '"soon"')),
        '"output": "\\u0000"',
        '"error_code": []',
        '"logs": {}',
    ],
)
def test_a_bad_event_fails_its_own_prediction(lab: Any, fields: str) -> None:
    bad, before, after = (lab.insert(webhook=HOOK) for _ in range(3))
    lab.send("succeeded", before, output=1)
    head = orjson.dumps({"type": "succeeded", "id": bad, "attempt": 1, "token": "token-1"})
    lab.send_raw(b"[" + head[:-1] + b"," + fields.encode() + b"}]")
    lab.send("succeeded", after, output=1)
    lab.record()
    assert lab.row(before)["status"] == lab.row(after)["status"] == "succeeded"
    row = lab.row(bad)
    assert (row["status"], row["error_code"]) == ("failed", "invalid_output")
    assert "cannot be recorded" in row["error"]
    assert lab.told_of(bad) == ["completed"]
    assert lab.redis.xpending("ada_echo:events", "recorder")["pending"] == 0


@pytest.mark.parametrize(
    "data",
    [
        *(b'[{"type":[]}]', b"nonsense", b"[" * 2000 + b"]" * 2000, b"\xff\xfe", b"[1e400]", b""),
        b'[{"type":"succeeded","id":{},"attempt":1e400,"token":[]}]',
        b'[{"type":"succeeded","id":"%b","attempt":1,"token":"\\u0000"}]' % (b"0" * 36),
    ],
)
def test_an_entry_that_holds_no_event_is_put_aside(lab: Any, data: bytes) -> None:
    before, after = lab.insert(), lab.insert()
    lab.send("succeeded", before)
    lab.send_raw(data)
    lab.redis.xadd(queues.events_key("ada_echo"), {"x": data})
    lab.send("succeeded", after)
    lab.record()
    assert lab.row(before)["status"] == lab.row(after)["status"] == "succeeded"
    assert lab.redis.xpending("ada_echo:events", "recorder")["pending"] == 0


@pytest.mark.parametrize(
    "entry_id", ["9999999999999-0", "9000000000000000-0", "18446744073709551615-0"]
)
def test_a_forged_entry_id_is_no_time(lab: Any, entry_id: str) -> None:
    prediction = lab.insert()
    event = {"type": "succeeded", "id": prediction, "attempt": 1, "token": "token-1"}
    event |= {"predict_time": 2.5, "output": "fine"}
    lab.redis.xadd("ada_echo:events", {"d": orjson.dumps([event])}, id=entry_id)
    lab.record()
    row = lab.row(prediction)
    assert (row["status"], row["output"]) == ("succeeded", "fine")
    (past,) = lab.sql("SELECT now() - completed_at AS since, now() - started_at AS began"
                      " FROM predictions")  # fmt: skip
    assert timedelta(0) <= past["since"] < timedelta(seconds=60)
    assert timedelta(0) <= past["began"] < timedelta(seconds=60)


def test_what_the_recorder_cannot_write_fails_alone(lab: Any) -> None:
    from inference_gateway.dispatch.recording.apply_changes import Recording
    from inference_gateway.dispatch.recording.event_batch import RowChange

    def deep(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    outputs = [1, deep(253), "\0", deep(300), 2**70, {1: 1}, object(), "\ud800", "fine"]
    predictions = [lab.insert() for _ in outputs]
    changes = [
        RowChange(p, 1, "token-1", "succeeded", ended_ms=1, output=output, events=["completed"])
        for p, output in zip(predictions, outputs, strict=True)
    ]
    assert Recording(lab.engine, 30).apply(changes).applied == len(outputs)
    states = [lab.row(prediction)["status"] for prediction in predictions]
    assert states == ["succeeded", *["failed"] * (len(outputs) - 2), "succeeded"]


@pytest.mark.parametrize("spoil", ["string", "list", "gone", "no group"])
def test_a_model_that_spoils_its_stream_keeps_nobody_from_being_recorded(
    lab: Any, spoil: str
) -> None:
    recorder = lab.recorder()
    fine, bad = lab.insert(), lab.insert(model="bob/bad")
    lab.send("heartbeat", fine)
    recorder.step()
    for number in range(6):
        _spoil(lab, "bob_bad:events", spoil)
        lab.send("output", fine, output=number)
        for _ in range(4):
            recorder.step()
        assert lab.row(fine)["output"] == number
    assert lab.row(bad)["status"] == "starting"


def test_a_stream_that_is_spoiled_again_is_read_only_now_and_then(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    keys = StreamKeys(lab.engine, lab.redis)
    keys.heard(["bob_bad", "ada_echo"])
    keys.broken(["bob_bad"])
    assert keys.readable == {"bob_bad", "ada_echo"}  # It may have been a loss of Redis.
    keys.broken(["bob_bad"])
    assert keys.readable == {"ada_echo"}
    now += 3
    assert keys.readable == {"bob_bad", "ada_echo"}


@pytest.mark.parametrize("spoil", ["string", "list", "no group"])
def test_a_spoiled_stream_is_left_out_when_streams_are_kept_short(lab: Any, spoil: str) -> None:
    """It may be spoiled at any moment, between the reading and this."""
    ensure_groups(lab.redis, ["bob_bad", "ada_echo"])
    for _ in range(200):
        lab.redis.xadd("ada_echo:events", {"d": "[]"}, id="1-*")
    lab.redis.xgroup_setid("ada_echo:events", "recorder", "$")
    _spoil(lab, "bob_bad:events", spoil)
    trim(lab.redis, ["bob_bad", "ada_echo"])
    assert lab.redis.xlen("ada_echo:events") < 200


def _spoil(lab: Any, key: str, how: str) -> None:
    if how == "no group":
        lab.redis.xgroup_destroy(key, "recorder")
        return
    lab.redis.delete(key)
    if how == "string":
        lab.redis.set(key, "x")
    elif how == "list":
        lab.redis.rpush(key, "x")


def test_a_stream_whose_ids_are_used_up_begins_anew(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_gateway.dispatch.recording.streams._TRIM_EVERY", 0)
    recorder = lab.recorder()
    first, second = lab.insert(), lab.insert()
    event = {"type": "succeeded", "id": first, "attempt": 1, "token": "token-1"}
    last = "18446744073709551615-18446744073709551615"
    lab.redis.xadd("ada_echo:events", {"d": orjson.dumps([event])}, id=last)
    lab.record(recorder)
    recorder.step()
    lab.send("succeeded", second)
    lab.record(recorder)
    assert lab.row(first)["status"] == lab.row(second)["status"] == "succeeded"


def test_the_relay_goes_on_after_the_last_of_all_ids(lab: Any) -> None:
    lost = lab.insert()
    last = "18446744073709551615-18446744073709551615"
    lab.redis.xadd("ada_echo:events", {"d": b"[]"}, id=last)
    lab.record()
    relay = lab.relay()
    relay.step()
    relay.step()
    assert lab.queued() == [lost]


@pytest.mark.parametrize(
    "change",
    [
        *(f"input = ('{'[' * depth}{']' * depth}')::jsonb" for depth in (251, 253, 300, 3000)),
        "input = ('{\"seed\": 1' || repeat('0', 400) || '}')::jsonb",
        "input = '[1]'",
    ],
)
def test_an_input_that_no_runner_could_be_given_fails_alone(lab: Any, change: str) -> None:
    ids = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(3)]
    for prediction in ids:
        lab.insert(id=prediction)
    lab.sql(f"UPDATE predictions SET {change} WHERE id = :id", id=ids[1])
    relay = lab.relay()
    for _ in range(3):
        relay.step()
    assert lab.queued() == [ids[0], ids[2]]
    row = lab.row(ids[1])
    assert (row["status"], row["error_code"]) == ("failed", "invalid_input")
    assert row["attempt"] <= 2


def test_a_float_that_jsonb_makes_an_integer_is_handed_out_as_it_was(lab: Any) -> None:
    prediction = lab.insert()
    lab.sql("UPDATE predictions SET input = '{\"seed\": 1e30}'")
    relay = lab.relay()
    relay.step()
    relay.step()
    assert lab.queued() == [prediction]
    assert lab.claim()["input"] == {"seed": 1e30}


@pytest.mark.parametrize("key", ["rq:queue:bob_bad", "rq:wip:bob_bad", "bob_bad:events"])
def test_a_model_that_spoils_its_keys_keeps_nobody_from_being_handed_out(
    lab: Any, key: str
) -> None:
    lab.insert(model="bob/bad")
    lab.redis.set(key, "x")
    lab.redis.sadd("rq:queues", b"\xff\xfe", "rq:queue:bob_bad", "nonsense")
    lost = lab.insert(model="ada/echo")
    relay, sweeper = lab.relay(), lab.sweeper()
    for _ in range(3):
        relay.step()
        sweeper.step()
    assert lab.queued() == [lost]


def test_a_queue_that_was_spoiled_is_one_again(lab: Any) -> None:
    bad = lab.insert(model="bob/bad")
    lab.redis.set("rq:queue:bob_bad", "x")
    relay = lab.relay()
    for _ in range(4):
        relay.step()
    jobs = lab.redis.lrange("rq:queue:bob_bad", 0, -1)
    assert [queues.parse_job_id(job.decode())[1] for job in jobs] == [bad]


@pytest.mark.parametrize("attempt", [100, 2**31 - 1])
def test_attempts_have_an_end(lab: Any, attempt: int) -> None:
    bad, fine = lab.insert(), lab.insert()
    lab.sql("UPDATE predictions SET attempt = :attempt WHERE id = :id", attempt=attempt, id=bad)
    relay = lab.relay()
    relay.step()
    relay.step()
    assert (lab.row(bad)["status"], lab.row(bad)["error_code"]) == ("failed", "undelivered")
    assert lab.queued() == [fine]


@pytest.mark.parametrize(
    "rings",
    [
        [{"x": "y"}],
        [{"model": b"\xff\xfe"}],
        [{"model": ""}],
        [{"model": "x" * 100_000}],
        [{"model": "a b\r\n"}, {"model": "../../x"}],
        "string",
        "last id",
    ],
)
def test_a_bell_that_is_rung_wrong_keeps_nobody_from_being_heard(lab: Any, rings: Any) -> None:
    if rings == "string":
        lab.redis.set(queues.DOORBELL, "x")
    elif rings == "last id":
        last = "18446744073709551615-18446744073709551615"
        lab.redis.xadd(queues.DOORBELL, {"model": "x"}, id=last)
    else:
        for ring in rings:
            lab.redis.xadd(queues.DOORBELL, ring)
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.finish(lab.claim())
    lab.record()
    assert lab.row(prediction)["status"] == "succeeded"
    lab.redis.delete(queues.events_key("ada_echo"))


def test_a_job_that_cannot_be_encoded_keeps_no_other_from_its_queue(lab: Any) -> None:
    from inference_gateway.lifecycle.job_queue import JobQueue

    def job(name: str, content: Any) -> Any:
        known = {"id": name, "attempt": 1, "token": "t", "notify": [], "crashes": 0}
        return {**known, "input": content}

    odd = [{1, 2}, {"n": 2**70}, {"s": "\ud800"}, {1: 2}, {"o": object()}]
    jobs = [job("a", {}), *(job(f"odd{n}", found) for n, found in enumerate(odd)), job("b", {})]
    assert JobQueue(lab.redis).enqueue("ada/echo", jobs) == 2
    assert lab.queued() == ["a", "b"]


def test_accounts_that_are_none_keep_no_others_bytes_from_being_counted(lab: Any) -> None:
    from inference_gateway.dispatch.usage import Usage

    for number in (1, 2**128 - 1):
        lab.insert(id=str(uuid.UUID(int=number)), model="\x01 no/model/at all")
    lab.sql("UPDATE predictions SET owner = gen_random_uuid()")
    lab.insert()
    lab.sql("UPDATE predictions SET completed_at = 'infinity', status = 'failed'")
    usage = Usage(lab.engine)
    usage.step()
    usage.step()
    counted = {row["owner"] for row in lab.sql("SELECT owner FROM account_usage")}
    assert counted == {row["owner"] for row in lab.sql("SELECT owner FROM predictions")}


def test_a_caller_without_an_id_keeps_no_others_token_alive(lab: Any) -> None:
    from inference_gateway.auth import standing
    from inference_gateway.auth.accounts import Principal

    lab.sql(
        "INSERT INTO users (id, username, email, password_hash, webhook_secret)"
        " VALUES (md5('ada')::uuid, 'ada', 'a@b', '!', 'whsec_x')"
    )
    known = str(lab.sql("SELECT md5('ada')::uuid AS id")[0]["id"])
    odd = ["", "7", "x' OR true --", "a\0b", "\ud800", "{" + known]
    callers = [Principal(user_id, "x", is_admin=False, until=0) for user_id in (*odd, known)]
    found = standing.read(lab.engine, callers)
    assert [found.apply(caller) for caller in callers] == [False] * len(odd) + [True]
