"""Whether a long queue and a large table slow the server down."""

from __future__ import annotations

import time

import redis

import report
from inference_contract.predictions import Job
from inference_gateway.lifecycle.job_queue import JobQueue
from servers import Server
from stack import Stack, running

STORED = 1_000_000
QUEUED = 100_000
CONNECTIONS = 16
TURNS = 9
"""Short ones in turn, and many: this figure is a ratio near 1, and machines waver."""
SECONDS = 4
WARM_SECONDS = 1
_STORE = """
INSERT INTO predictions (id, owner, model, version, status, token, input, output,
                         created_at, started_at, completed_at, deadline)
SELECT uuidv7(make_interval(secs => -86400 + n / 20.0)),
       (SELECT id FROM users WHERE username = 'admin'), 'admin/echo', '1', 'succeeded',
       md5(n::text), '{"text": "hello, world"}', '"hello, world"',
       at, at, at, at + interval '1 day'
FROM (SELECT n, now() + make_interval(secs => -86400 + n / 20.0) AS at
      FROM generate_series(1, %s) n) rows
"""
_QUEUE = """
INSERT INTO predictions (id, owner, model, version, token, input, deadline)
SELECT uuidv7(), (SELECT id FROM users WHERE username = 'admin'), %s, '1',
       md5(random()::text), '{"text": "hello, world"}',
       now() + interval '1 day'
FROM generate_series(1, %s)
RETURNING id::text, token
"""


def measure() -> None:
    report.title(f"{QUEUED:,} predictions of another model queued, {STORED:,} rows stored")
    rates: dict[str, list[float]] = {"empty": [], "full": []}
    with running(2) as (empty, full):
        fill(full)
        for stack in (empty, full):
            stack.custom_model("echo", "models:Echo")
        for turn in range(TURNS):
            order = [("empty", empty, full), ("full", full, empty)]
            for name, stack, other in order if turn % 2 == 0 else reversed(order):
                rates[name].append(_rate(stack, other))
        _print_waiting(full)
    numbered = (f"answers/s at c = {CONNECTIONS}", *range(1, TURNS + 1))
    rows = [(name, *(f"{rate:,.0f}" for rate in found)) for name, found in rates.items()]
    report.table(numbered, rows)
    ratio = report.ratio(rates["full"], rates["empty"])
    report.target("full, of empty in the same turn", ratio, 0.9, at_least=True)


def _rate(stack: Stack, other: Stack) -> float:
    """What a server does in the background counts as its own, so the other one stands still."""
    with other.frozen():
        server = Server("", stack.url, {**stack.headers, "Prefer": "wait=60"})
        server.load("admin/echo", CONNECTIONS, WARM_SECONDS)
        return server.load("admin/echo", CONNECTIONS, SECONDS).rate


def _print_waiting(stack: Stack) -> None:
    paused = "SELECT count(*) FROM predictions WHERE model = 'admin/paused'"
    waiting = stack.sql(f"{paused} AND status = 'starting'")[0][0]
    print(f"of {QUEUED:,} queued predictions {waiting:,} still wait", flush=True)


def fill(stack: Stack) -> None:
    """Rows that have ended, and a model that never becomes ready with a long queue."""
    start = time.monotonic()
    paused = stack.custom_model("paused", "models:Paused", ready=False)
    stack.sql(_STORE, STORED)
    rows = stack.sql(_QUEUE, paused, QUEUED)
    text = {"text": "hello, world"}
    jobs = [
        Job(id=made, attempt=1, token=token, input=text, notify=[], crashes=0)
        for made, token in rows
    ]
    with redis.Redis.from_url(stack.redis_url) as client:
        JobQueue(client).enqueue(paused, jobs)
    stack.sql("VACUUM ANALYZE predictions")
    print(f"filled in {time.monotonic() - start:.0f} s", flush=True)
