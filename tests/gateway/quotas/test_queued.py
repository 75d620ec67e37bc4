"""What one account's inputs may take of Redis: the others wait in PostgreSQL, and all are run."""

from __future__ import annotations

import math
import random
import string
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI
from narrow import decoded, there
from sqlalchemy import Engine, create_engine, text

from inference_contract import queues
from inference_contract.inferencemodel import InferenceModel
from inference_gateway.dispatch.feeding import feeder as feeding
from inference_gateway.dispatch.feeding import held as holding
from inference_gateway.dispatch.feeding.feeder import Feeder, choose
from inference_gateway.dispatch.feeding.held import Held, Rotation
from inference_gateway.dispatch.recovery.outage_grace import OutageGrace
from inference_gateway.dispatch.recovery.relay import Relay
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_gateway.quotas.queued import fits, free
from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]
MakeModel = Callable[..., InferenceModel]
BUDGET = 100_000
LARGE = 10_000
ADA, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    settings.queued_bytes_per_account = BUDGET
    return settings


@pytest.fixture
def engine(settings: GatewaySettings) -> Iterator[Engine]:
    made = create_engine(settings.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    yield made
    made.dispose()


@pytest.fixture
def feeder(engine: Engine, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Feeder:
    monkeypatch.setattr(feeding, "_COUNT_EVERY", 0)
    return Feeder(engine, redis_client, budget=BUDGET)


async def create(
    client: httpx.AsyncClient, headers: dict[str, str], model: str = "ada/m", size: int = LARGE
) -> dict[str, Any]:
    prompt = "".join(random.choices(string.ascii_letters, k=size))
    body = {"model": model, "input": {"prompt": prompt}}
    answer = await client.post("/v1/predictions", headers=headers, json=body)
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


def queued(client: redis.Redis, model: str = "ada/m") -> list[str]:
    """Ids of predictions, the next one first."""
    jobs = client.lrange(queues.queue_key(queues.model_key(model)), 0, -1)
    return [queues.parse_job_id(decoded(job))[1] for job in jobs]


def end(client: redis.Redis, engine: Engine, *predictions: str) -> None:
    """As runner and recorder do."""
    with engine.begin() as connection:
        for prediction in predictions:
            connection.execute(
                text(
                    "UPDATE predictions SET status = 'succeeded', completed_at = now()"
                    " WHERE id = :id"
                ),
                {"id": prediction},
            )
    for key in map(decoded, client.keys("rq:job:*")):
        if queues.parse_job_id(key)[1] in predictions:
            client.delete(key)
            client.lrem(queues.queue_key(queues.parse_job_id(key)[0][7:]), 1, key[7:])


async def test_what_is_above_the_budget_waits_in_postgresql_and_says_so(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: MakeModel,
    redis_client: redis.Redis,
    wait_until: Callable[..., Any],
) -> None:
    make_model("ada", "m", visibility="public")
    made = [await create(client, auth("ada")) for _ in range(30)]
    stranger = await create(client, auth("bob"))
    wait_until(lambda: stranger["id"] in queued(redis_client))
    assert queued(redis_client) == [*(p["id"] for p in made[:4]), stranger["id"]]
    assert {p["status_detail"]["reason"] for p in made[:4]} == {"NotSeenYet"}
    last = await client.get(f"/v1/predictions/{made[-1]['id']}", headers=auth("ada"))
    for seen in (made[4], last.json()):
        assert seen["status"] == "starting"
        assert seen["status_detail"]["stage"] == "queued"
        assert "QUEUED_BYTES_PER_ACCOUNT" in seen["status_detail"]["message"]


async def test_all_are_queued_in_their_order_as_earlier_ones_end(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: MakeModel,
    redis_client: redis.Redis,
    engine: Engine,
    feeder: Feeder,
    wait_until: Callable[..., Any],
) -> None:
    make_model("ada", "m")
    made = [(await create(client, auth("ada")))["id"] for _ in range(12)]
    made.append((await create(client, auth("ada"), size=1))["id"])  # does not overtake
    wait_until(lambda: len(queued(redis_client)) == 4)
    seen: list[str] = []
    while waiting := queued(redis_client):
        feeder.step()
        assert queued(redis_client) == waiting  # full
        assert len(waiting) <= 5
        seen += waiting
        end(redis_client, engine, *waiting)
        feeder.step()
    assert seen == made
    with engine.connect() as connection:
        assert connection.execute(text("SELECT DISTINCT attempt FROM predictions")).all() == [(1,)]


async def test_the_autoscaler_hears_how_many_of_a_model_are_held(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: MakeModel,
    redis_client: redis.Redis,
    engine: Engine,
    feeder: Feeder,
    wait_until: Callable[..., Any],
) -> None:
    make_model("ada", "m")
    made = [(await create(client, auth("ada")))["id"] for _ in range(10)]
    wait_until(lambda: len(queued(redis_client)) == 4)
    feeder.step()
    assert redis_client.hgetall(queues.HELD) == {b"ada_m": b"6"}
    assert 0 < redis_client.ttl(queues.HELD) <= queues.HELD_SECONDS
    end(redis_client, engine, *made[:4])
    feeder.step()
    assert redis_client.hgetall(queues.HELD) == {b"ada_m": b"2"}
    end(redis_client, engine, *made[4:8])
    feeder.step()
    assert queued(redis_client) == made[8:]
    assert not redis_client.exists(queues.HELD)


async def test_the_relay_takes_none_of_them_for_lost(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: MakeModel,
    redis_client: redis.Redis,
    engine: Engine,
    wait_until: Callable[..., Any],
) -> None:
    make_model("ada", "m")
    for _ in range(10):
        await create(client, auth("ada"))
    wait_until(lambda: len(queued(redis_client)) == 4)
    with engine.begin() as connection:
        connection.execute(text("UPDATE predictions SET created_at = now() - interval '1 hour'"))
    redis_client.flushdb()
    grace = OutageGrace(redis_client, 0)
    relay = Relay(engine, redis_client, sweep_seconds=0, max_attempts=3, grace=grace)
    for _ in range(3):
        relay.step()
    assert len(queued(redis_client)) == 4


@pytest.mark.parametrize("how", ["canceled", "late", "the model goes"])
async def test_one_that_is_held_back_ends_as_any_other(
    how: str,
    client: httpx.AsyncClient,
    app: FastAPI,
    auth: Headers,
    make_model: MakeModel,
    redis_client: redis.Redis,
    engine: Engine,
    feeder: Feeder,
    wait_until: Callable[..., Any],
) -> None:
    from inference_gateway.dispatch.recovery.sweeper import Sweeper
    from inference_gateway.lifecycle.cancel import end_waiting

    make_model("ada", "m")
    made = [(await create(client, auth("ada")))["id"] for _ in range(6)]
    wait_until(lambda: len(queued(redis_client)) == 4)
    url = f"/v1/predictions/{made[5]}"
    if how == "canceled":
        await client.post(f"{url}/cancel", headers=auth("ada"))
    elif how == "late":
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE predictions SET deadline = now() WHERE id = :id"), {"id": made[5]}
            )
        grace = OutageGrace(redis_client, 0)
        Sweeper(engine, redis_client, sweep_seconds=0, max_attempts=3, grace=grace).step()
    else:
        end_waiting(engine, redis_client, "ada/m")
    row = (await client.get(url, headers=auth("ada"))).json()
    assert (row["status"], "status_detail" in row) == ("canceled", False)
    if how != "the model goes":
        end(redis_client, engine, *made[:4])
    feeder.step()
    assert made[5] not in queued(redis_client)


async def test_what_redis_does_not_take_stays_held_back(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: MakeModel,
    redis_client: redis.Redis,
    engine: Engine,
    feeder: Feeder,
    wait_until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_model("ada", "m")
    made = [(await create(client, auth("ada")))["id"] for _ in range(5)]
    wait_until(lambda: len(queued(redis_client)) == 4)
    end(redis_client, engine, *made[:4])

    def away(*_: Any) -> None:
        raise redis.ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(JobQueue, "enqueue", away)
        with pytest.raises(redis.ConnectionError):
            feeder.step()
    assert queued(redis_client) == []
    feeder.step()
    assert queued(redis_client) == [made[4]]


def hold(engine: Engine, accounts: int, models: int, predictions: int = 1) -> None:
    """Of accounts 1, 2, …, each of models o/1, o/2, …"""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO predictions (id, owner, model, version, token, input, input_bytes,"
                " held, deadline) SELECT gen_random_uuid(), lpad(to_hex(a), 32, '0')::uuid,"
                " 'o/' || m, '1', 't', '{}', 10, true, now() + interval '1 hour'"
                " FROM generate_series(1, :accounts) a, generate_series(1, :models) m,"
                " generate_series(1, :predictions)"
            ),
            {"accounts": accounts, "models": models, "predictions": predictions},
        )


def left(engine: Engine) -> Counter[int]:
    """Account → predictions that are held back."""
    query = text("SELECT owner FROM predictions WHERE held")
    with engine.connect() as connection:
        return Counter(owner.int for owner in connection.execute(query).scalars())


@pytest.mark.parametrize(
    ("accounts", "models", "predictions"), [(1, 3000, 1), (2000, 1, 1), (60, 10, 40), (1, 1, 3000)]
)
def test_a_look_takes_in_a_part_of_what_is_held(
    engine: Engine, accounts: int, models: int, predictions: int
) -> None:
    hold(engine, accounts, models, predictions)
    turns = Rotation()
    with engine.connect() as connection:
        for _ in range(3):
            found = turns.next(connection)
            lines = Counter((one.owner, one.model) for one in found)
            assert 0 < len(lines) <= 500
            assert len({owner for owner, _ in lines}) <= 64
            assert max(lines.values()) <= 200
            assert len(found) <= 10_000


@pytest.mark.parametrize(("accounts", "models"), [(1, 3000), (700, 1), (30, 40)])
def test_all_of_many_have_their_turn(engine: Engine, accounts: int, models: int) -> None:
    hold(engine, accounts, models)
    turns = Rotation()
    seen: Counter[Any] = Counter()
    with engine.connect() as connection:
        while len(seen) < accounts * models:
            before = len(seen)
            seen.update((one.owner, one.model) for one in turns.next(connection))
            assert len(seen) > before
    assert max(seen.values()) == 1


def test_who_has_very_many_models_keeps_nobody_waiting(
    engine: Engine, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_ACCOUNTS", 2)
    monkeypatch.setattr(holding, "_LINES", 4)
    hold(engine, accounts=1, models=100)
    hold(engine, accounts=5, models=1)
    for _ in range(3):
        feeder.step()
    assert left(engine).keys() == {1}
    while before := left(engine)[1]:
        feeder.step()
        assert left(engine)[1] < before


def test_what_comes_while_others_have_their_turn_is_not_passed_over(
    engine: Engine, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_ACCOUNTS", 2)
    hold(engine, accounts=5, models=1)
    feeder.step()
    hold(engine, accounts=1, models=1)
    for _ in range(3):
        feeder.step()
    assert not left(engine)


def test_accounts_that_are_gone_leave_nothing_in_memory(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_LINES", 64)
    monkeypatch.setattr(holding, "_MAX_CURSORS", 70)
    hold(engine, accounts=300, models=2)
    turns = Rotation()
    with engine.connect() as connection:
        for _ in range(6):
            turns.next(connection)
            assert turns.remembered() <= 70 + 64


def test_an_account_with_nothing_there_may_have_one_however_large() -> None:
    assert fits(8_000_000, 0, 0, 1000, 16_000_000)
    assert not fits(8_000_000, 0, 0, 1000, 15_000_000)


def test_a_model_that_stands_still_leaves_room_for_the_others() -> None:
    assert fits(50, 0, 1, 101, math.inf)
    assert not fits(2, 50, 50, 101, math.inf)
    assert fits(20, 1, 51, 101, math.inf)


@pytest.mark.parametrize("size", [1_000_000, 9_000_000])
def test_however_many_models_stand_still_another_one_moves(size: int) -> None:
    load = 0
    for _ in range(50):  # models
        assert fits(size, 0, load, 64e6, 4e9)
        of_model = 0
        while fits(size, of_model, load, 64e6, 4e9):
            of_model, load = of_model + size, load + size
    assert load < 64e6 + 50 * size


def test_not_with_all_its_models_has_an_account_more_than_its_part_of_what_is_free() -> None:
    load, room = 0, 800e6
    while fits(1_000_000, 0, load, 64e6, room):  # each of another model
        load, room = load + 1_000_000, room - 1_000_000
    assert load == 100_000_000


def test_however_many_fill_their_budget_a_newcomer_finds_room() -> None:
    room = 800e6
    for _ in range(1000):  # accounts
        load = 0
        while fits(1_000_000, load, load, 64e6, room):
            load, room = load + 1_000_000, room - 1_000_000
    assert room >= 0
    room = 800e6
    for _ in range(1000):
        load = 0
        while fits(50_000, load, load, 64e6, room):
            load, room = load + 50_000, room - 50_000
    assert fits(10_000, 0, 0, 64e6, room)


def test_accounts_and_models_take_turns() -> None:
    lines = [(ADA, "ada/a"), (ADA, "ada/b"), (BOB, "ada/a")]
    held = [Held(o, m, uuid.uuid4(), 10) for o, m in lines for _ in range(100)]
    chosen = choose(held, {(ADA, "ada/a"): 30}, budget=200, room=10_000)
    taken = Counter((one.owner, one.model) for one in chosen)
    assert taken == {(BOB, "ada/a"): 10, (ADA, "ada/b"): 6, (ADA, "ada/a"): 4}
    assert {one.owner for one in chosen[:3]} == {BOB}  # who has least
    assert {one.model for one in chosen if one.owner == ADA and one in chosen[:7]} == {"ada/b"}
    assert [one.id for one in chosen if one.owner == BOB] == [h.id for h in held[200:210]]


def test_for_all_together_no_more_is_chosen_than_there_is_room_for() -> None:
    held = [Held(uuid.UUID(int=n), "ada/m", uuid.uuid4(), 10) for n in range(100)]
    assert 0 < len(choose(held, {}, budget=math.inf, room=100)) < 10


def test_one_process_feeds_at_a_time(engine: Engine, feeder: Feeder) -> None:
    hold(engine, accounts=1, models=1)
    with engine.begin() as another:
        another.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": feeding.LOCK})
        feeder.step()
        assert left(engine)
    feeder.step()
    assert not left(engine)


def test_one_that_ends_after_it_was_chosen_is_not_queued(
    engine: Engine,
    feeder: Feeder,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold(engine, accounts=1, models=1)
    chosen: list[Held] = []

    def choose_late(*held: Any, **limits: Any) -> list[Held]:
        chosen.extend(choose(*held, **limits))
        end = "UPDATE predictions SET status = 'canceled', completed_at = now()"
        with engine.begin() as connection:
            connection.execute(text(end))
        return chosen

    monkeypatch.setattr(feeding, "choose", choose_late)
    feeder.step()
    assert len(chosen) == 1
    assert queued(redis_client, "o/1") == []


def test_the_room_follows_what_redis_may_have(redis_client: redis.Redis) -> None:
    before = there(redis_client.config_get("maxmemory")["maxmemory"])
    used = redis_client.info("memory")["used_memory"]
    try:
        redis_client.config_set("maxmemory", 0)
        assert free(redis_client) == math.inf
        redis_client.config_set("maxmemory", used * 2)
        assert used * 0.3 < free(redis_client) < used * 0.7  # a quarter is not for inputs
    finally:
        redis_client.config_set("maxmemory", before)
