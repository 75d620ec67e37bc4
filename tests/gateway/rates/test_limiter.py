"""The limits themselves: what passes, what waits, and what several gateways know of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from clock import Clock

from inference_gateway.errors import TooManyRequests
from inference_gateway.rates.gcra import Cell, Rate, throttled
from inference_gateway.rates.limiter import Charge, Limiter

RATE = Rate("test", 0.01, 5, "One test may make 5 requests (RATE_PER_TEST)")
CHARGE = Charge.of(RATE, "ada")


async def count(limiter: Limiter, tries: int, charge: Charge = CHARGE) -> int:
    """How many of so many tries pass."""
    passed = 0
    for _ in range(tries):
        try:
            limiter.take([charge])
            passed += 1
        except TooManyRequests:
            pass
    return passed


async def count_exactly(limiter: Limiter, tries: int) -> int:
    async def one() -> bool:
        try:
            await limiter.take_exactly([CHARGE])
        except TooManyRequests:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(tries))))


@pytest.fixture
async def limiters(redis_url: str) -> AsyncIterator[list[Limiter]]:
    """Those of two gateways."""
    clients = [redis.asyncio.Redis.from_url(redis_url) for _ in range(2)]
    made = [Limiter() for _ in clients]
    for limiter, client in zip(made, clients, strict=True):
        limiter.start(client)
    yield made
    for limiter, client in zip(made, clients, strict=True):
        await limiter.stop()
        await client.aclose()


def test_a_burst_then_one_at_each_interval() -> None:
    cell = Cell("key", Rate("test", 10, 3, ""))
    passed = []
    for twentieth in range(13):
        if cell.wait(1000 + twentieth / 20) <= 0:
            cell.take(1000 + twentieth / 20)
            passed.append(twentieth)
    assert passed == [0, 1, 2, 3, 4, 6, 8, 10, 12]


def test_the_whole_burst_at_once() -> None:
    cell = Cell("key", Rate("test", 3, 1000, ""))
    for _ in range(1000):
        assert cell.wait(1234.567) <= 0
        cell.take(1234.567)
    assert cell.wait(1234.567) > 0


def test_what_was_taken_here_is_counted_until_it_is_told() -> None:
    cell = Cell("key", RATE)
    assert (cell.key, cell.tat, cell.unsent) == ("key", 0.0, 0)
    cell.take(0.5)
    cell.take(0.5)
    assert (cell.tat, cell.unsent) == (200.5, 2)


@pytest.mark.parametrize(
    ("wait", "words"), [(0.1, "1 second."), (1.0, "1 second."), (1.1, "2 seconds.")]
)
def test_whoever_waits_is_told_whole_seconds(wait: float, words: str) -> None:
    refused = throttled(RATE, wait)
    assert refused.detail.endswith(f": try again in {words}")
    assert refused.headers
    assert refused.headers["Retry-After"] == words[0]


async def test_what_is_refused_costs_nothing() -> None:
    limiter = Limiter()
    other = Charge.of(Rate("other", 0.01, 100, ""), "ada")
    assert await count(limiter, 9) == 5
    for _ in range(9):
        with pytest.raises(TooManyRequests):
            limiter.take([other, CHARGE])
    assert await count(limiter, 200, other) == 100


async def test_the_answer_says_which_limit_and_until_when() -> None:
    limiter = Limiter()
    await count(limiter, 5)
    with pytest.raises(TooManyRequests) as refused:
        limiter.take([CHARGE])
    assert refused.value.detail == (
        "Request was throttled. One test may make 5 requests (RATE_PER_TEST): "
        "try again in 100 seconds."
    )
    assert refused.value.headers == {
        "Retry-After": "100",
        "RateLimit": '"test";r=0;t=100',
        "RateLimit-Policy": '"test";q=5;w=500',
    }


async def test_what_one_gateway_gave_the_other_knows(limiters: list[Limiter]) -> None:
    one, other = limiters
    assert await count(one, 5) == 5
    await one.sync()
    await count(other, 1)
    await other.sync()
    assert await count(other, 5) == 0


async def test_gateways_that_race_pass_no_more_than_there_is(limiters: list[Limiter]) -> None:
    passed = await asyncio.gather(*(count_exactly(limiter, 20) for limiter in limiters))
    assert sum(passed) == 5


async def test_without_redis_the_limit_holds_here() -> None:
    limiter = Limiter()
    limiter.start(redis.asyncio.Redis(port=1))
    assert await count_exactly(limiter, 20) == 5
    assert await count(limiter, 20) == 0
    await limiter.stop()


async def test_callers_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_gateway.rates.limiter._MAX_CELLS", 100)
    limiter = Limiter()
    for number in range(1000):
        await count(limiter, 1, Charge.of(RATE, str(number)))
    assert limiter.remembered() <= 100


async def test_a_limit_that_is_over_is_forgotten(redis_url: str) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        limiter.start(client)
        assert await count(limiter, 1) == 1
        await limiter.sync()
        clock.now += 99  # Of the 100 seconds that one of this limit counts.
        await limiter.sync()
        assert limiter.remembered() == 1
        clock.now += 31
        await limiter.sync()
        assert limiter.remembered() == 0
        await limiter.stop()
