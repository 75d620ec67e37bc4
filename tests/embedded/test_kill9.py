"""Kill -9 of any one process in the middle of 200 running predictions loses none, doubles none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

COUNT = 200


def _assert_each_exactly_once(client: Any, model_id: str, ids: list[str]) -> None:
    """By SQL: one row per accepted prediction, each ended well, each webhook event just once."""
    assert len(set(ids)) == COUNT
    rows = client.sql(
        "SELECT id::text, status, input->>'text', output #>> '{}', attempt FROM predictions "
        "WHERE model = %s",
        model_id,
    )
    assert sorted(row[0] for row in rows) == sorted(ids)
    assert {row[1] for row in rows} == {"succeeded"}
    assert all(output == text.upper() for _, _, text, output, _ in rows)
    deliveries = client.sql(
        "SELECT count(*), count(DISTINCT prediction_id) FROM webhook_deliveries "
        "JOIN predictions p ON p.id = prediction_id WHERE p.model = %s AND event = 'completed'",
        model_id,
    )
    assert deliveries == [(COUNT, COUNT)]


@pytest.mark.parametrize("victim", ["gateway", "dispatch", "runner", "valkey", "postgres"])
def test_kill_9_loses_none_and_doubles_none(
    victim: str, new_client: Callable[..., Any], receiver: Any, wait_until: Callable[..., Any]
) -> None:
    client = new_client(LEASE_SECONDS="3", SWEEP_SECONDS="0.2", WEBHOOK_TIMEOUT_SECONDS="2")
    model_id = client.apply_custom(
        "slow",
        "slow:Slow",
        ("text",),
        parameters={"seconds": 1.0},
        minReplicas=2,
        maxReplicas=2,
        batching={"maxBatchSize": 100},
    )
    wait_until(lambda: client.model(model_id)["status"]["ready_replicas"] == 2)

    ids = client.create_many(model_id, COUNT, webhook=receiver.url)
    wait_until(lambda: client.count(model_id, "processing") > 0)
    assert client.count(model_id, "succeeded") < COUNT
    client.stack.kill(victim)

    wait_until(lambda: client.count(model_id, "succeeded") == COUNT, timeout=60)
    _assert_each_exactly_once(client, model_id, ids)
    wait_until(lambda: len({h["webhook-id"] for h, _ in receiver.received}) == COUNT, timeout=60)


def test_gateway_killed_while_it_creates(
    new_client: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    client = new_client(LEASE_SECONDS="3", SWEEP_SECONDS="0.2")
    model_id = client.apply_custom(
        "slow", "slow:Slow", ("text",), parameters={"seconds": 0.01}, minReplicas=1
    )
    wait_until(lambda: client.model(model_id)["status"]["ready_replicas"] == 1)

    kills = iter([client.stack.kill])
    seen: list[int] = []

    def kill_in_the_middle() -> bool:
        seen.append(len(client.sql("SELECT 1 FROM predictions WHERE model = %s", model_id)))
        if 20 <= seen[-1] < COUNT and (kill := next(kills, None)):
            kill("gateway")
            return True
        return seen[-1] >= COUNT

    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(client.create_many, model_id, COUNT)
        wait_until(kill_in_the_middle, every=0.002)
        ids = creating.result(60)
    wait_until(lambda: client.count(model_id, "succeeded") == COUNT, timeout=60)
    rows = client.sql("SELECT id::text FROM predictions WHERE model = %s", model_id)
    assert sorted(row[0] for row in rows) == sorted(set(ids))
    assert next(kills, None) is None, "the gateway was never killed: the test saw nothing"


def test_a_prediction_that_kills_its_runner_again_and_again(
    new_client: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    """It fails after MAX_ATTEMPTS; what waits behind it runs meanwhile, in the same process."""
    client = new_client(LEASE_SECONDS="3", SWEEP_SECONDS="0.2")
    model_id = client.apply_custom("naughty", "naughty:Misbehaves", ("do",), minReplicas=1)
    wait_until(lambda: client.model(model_id)["status"]["ready_replicas"] == 1)
    poison = client.predict(model_id, {"do": "exit"})
    others = [client.predict(model_id, {"do": "well"}) for _ in range(20)]
    wait_until(lambda: client.count(model_id, "failed") == 1, timeout=60)
    ended = client.prediction(poison["id"])
    assert (ended["error_code"], ended["error"]) == (
        "runner_crashed",
        "Its runner died 3 times while running it.",
    )
    assert client.count(model_id, "succeeded") == len(others)
    assert client.sql("SELECT attempt, crashes FROM predictions WHERE id = %s", poison["id"]) == [
        (3, 2)
    ]
    rows = client.sql("SELECT DISTINCT crashes FROM predictions WHERE id <> %s", poison["id"])
    assert [crashes for (crashes,) in rows] == [0]
