"""One value through everything: what is accepted comes back the same, or is refused at the door.

Body → row → job → runner → event → recorder → row → what the client reads, on the real servers.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from inference_contract.predictions import Job
from inference_gateway.errors import GatewayError
from inference_gateway.lifecycle import wire
from inference_gateway.lifecycle.ids import IdSource
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_gateway.predictions.creating import requests
from inference_gateway.predictions.creating.insert import InsertConnection
from inference_runner.redis.emitter import encode_end, entries
from inference_runner.runs import Run, succeeded

_TEXTS = st.text(st.characters(exclude_categories=()), max_size=12)
_NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63, -(2**63), 2**64 - 1, 2**64, 10**400])
    | st.floats()
    | st.sampled_from([1e16, 1e22, 1e30, 1e308, 5e-324, -0.0, 1.0])
)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def _deep(depth: int) -> Any:
    value: Any = "innermost"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


_INPUTS = st.dictionaries(_TEXTS, _JSON | st.integers(55, 70).map(_deep), max_size=4)


def _same(one: Any, other: Any) -> bool:
    """Numbers by their value: PostgreSQL has one kind of them, and gives 5.451237281632351e16 back
    as an integer of the same digits. `true` is no 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) or isinstance(other, float):
        return float(one) == float(other)
    return bool(one == other) and isinstance(one, str) is isinstance(other, str)


_ROW: dict[str, Any] = {
    "owner": "8c8d357b-5e87-2bbd-4453-8737b1c79b5b",
    "model": "ada/echo",
    "version": "1",
    "lives_seconds": 3600,
    "input_bytes": 0,
    "held": False,
    **dict.fromkeys(("webhook", "webhook_events", "base_url", "idempotency_key", "request_hash")),
}


def _job(row: dict[str, Any]) -> Job:
    return Job(
        id=row["id"], token=row["token"], input=row["input"], attempt=1, notify=[], crashes=0
    )


@pytest.fixture
def insert(database_url: str) -> Any:
    """`insert`, for who has no event loop."""
    with asyncio.Runner() as loop, ThreadPoolExecutor(1) as threads:
        find: Any = list
        store = InsertConnection(lambda: psycopg2.connect(database_url, async_=True), find, threads)
        yield lambda rows: loop.run(store.insert(rows))
        loop.run(_close(store))


async def _close(store: InsertConnection) -> None:
    store.close()


def test_what_is_accepted_comes_back_as_it_was(lab: Any, insert: Any) -> None:
    recorder, ids, queue = lab.recorder(), IdSource(), JobQueue(lab.redis)
    seen = {"accepted": 0, "refused": 0}

    def accepted(sent: dict[str, Any]) -> dict[str, Any] | None:
        content = json.dumps({"model": "ada/echo", "input": sent}).encode()
        try:
            body = requests.decode(content)
            requests.encode_input(body.input, 10_000_000)
        except GatewayError:
            seen["refused"] += 1
            return None
        seen["accepted"] += 1
        prediction, token = ids.new()
        return {**_ROW, "id": prediction, "token": token, "input": body.input}

    @given(st.lists(_INPUTS, min_size=8, max_size=12))
    @settings(
        max_examples=20,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def travels(inputs: list[dict[str, Any]]) -> None:
        taken = [(row, sent) for sent in inputs if (row := accepted(sent)) is not None]
        insert([row for row, _ in taken])
        queue.enqueue("ada/echo", [_job(row) for row, _ in taken])
        said = []
        for _, sent in taken:
            job = lab.claim()
            assert _same(job["input"], sent)
            encoded, outcome = encode_end(Run(job, "", ""), succeeded(job["input"]))
            assert outcome.error is None
            said.append(encoded)
            lab.forget(job)
        for entry in entries(said):
            lab.send_raw(entry)
        lab.record(recorder)
        for row, sent in taken:
            shown = orjson.loads(b"".join(wire.encode(lab.row(row["id"]), "http://gateway")))
            assert shown["status"] == "succeeded"
            assert _same(shown["input"], sent)
            assert _same(shown["output"], sent)

    travels()
    assert min(seen.values()) > 10, "both happen"
