"""Many who ask for rows share queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from inference_gateway.predictions import repository, states
from inference_gateway.predictions.states import States, Wanted

Auth = Callable[..., dict[str, str]]
OWNER = str(uuid4())


class Lookup:
    def __init__(self) -> None:
        self.asked: list[set[Wanted]] = []
        self.missing: set[UUID] = set()
        self.error: Exception | None = None

    def __call__(self, wanted: Collection[Wanted]) -> dict[Wanted, Any]:
        self.asked.append(set(wanted))
        if self.error is not None:
            raise self.error
        return {one: {"id": one.id} for one in wanted if one.id not in self.missing}


async def test_who_asks_while_a_query_is_under_way_shares_the_next() -> None:
    lookup, ids = Lookup(), [uuid4() for _ in range(states.AT_ONCE)]
    found = States(lookup)
    first = asyncio.create_task(found.find(ids[0], OWNER))
    await asyncio.sleep(0)
    rows = await asyncio.gather(first, *(found.find(one, OWNER) for one in ids))
    assert [row and row["id"] for row in rows] == [ids[0], *ids]
    assert len(lookup.asked) <= 2


async def test_a_query_is_asked_for_some_at_once() -> None:
    lookup, ids = Lookup(), [uuid4() for _ in range(3 * states.AT_ONCE)]
    found = States(lookup)
    await asyncio.gather(*(found.find(one, OWNER) for one in ids))
    assert max(map(len, lookup.asked)) == states.AT_ONCE


async def test_what_is_not_there_is_none() -> None:
    lookup, one, other = Lookup(), uuid4(), uuid4()
    lookup.missing = {other}
    found = States(lookup)
    rows: list[Any] = await asyncio.gather(found.find(one, OWNER), found.find(other, OWNER))
    assert rows == [{"id": one}, None]


async def test_an_error_is_everybodys_and_the_next_are_answered() -> None:
    lookup, one = Lookup(), uuid4()
    lookup.error = OSError("away")
    found = States(lookup)
    asked = (found.find(one, OWNER) for _ in range(3))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError] * 3
    lookup.error = None
    again: Any = await found.find(one, OWNER)
    assert again == {"id": one}


async def test_who_goes_away_keeps_no_other_waiting() -> None:
    found, one = States(Lookup()), uuid4()
    gone = asyncio.create_task(found.find(one, OWNER))
    stays = asyncio.create_task(found.find(one, OWNER))
    await asyncio.sleep(0)
    gone.cancel()
    answer: Any = await stays
    assert answer == {"id": one}


@pytest.mark.usefixtures("runner")
async def test_rows_are_found_by_their_own_id_or_the_chosen_one_and_by_their_owner_only(
    client: httpx.AsyncClient, app: FastAPI, auth: Auth, echo: str
) -> None:
    body = {"model_id": echo, "input": {"text": "hi"}}
    made = (await client.post("/v1/predictions", json=body, headers=auth("ada"))).json()
    chosen = uuid4()
    put = await client.put(f"/v1/predictions/{chosen}", json=body, headers=auth("ada"))
    assert put.status_code == 201
    auth("bob")
    services = app.state.services
    ada, bob = [str(row[0]) for row in _accounts(services.engine, ("ada", "bob"))]
    first, second = Wanted(UUID(made["id"]), ada), Wanted(chosen, ada)
    strangers = {Wanted(UUID(made["id"]), bob), Wanted(chosen, bob), Wanted(uuid4(), ada)}
    found: Any = repository.states(services.engine, {first, second, *strangers})
    assert set(found) == {first, second}
    assert str(found[first]["id"]) == made["id"]
    assert found[second]["idempotency_key"][1:] == str(chosen)
    assert "output" not in found[first]


def _accounts(engine: Any, names: tuple[str, ...]) -> list[Any]:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT id FROM users WHERE username = ANY (%s) ORDER BY username", (list(names),)
        )
        return list(found)
