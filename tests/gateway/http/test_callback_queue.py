"""Work that comes all at once does not keep the event loop from everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from inference_gateway.http.callback_queue import CallbackQueue


async def test_a_turn_has_its_share_and_the_rest_follows_in_order() -> None:
    callbacks, seen = CallbackQueue(most=10), []
    done: list[object] = []
    for number in range(35):
        callbacks.run(partial(done.append, number))
    while len(done) < 35:
        seen.append(len(done))
        await asyncio.sleep(0)
    assert seen == [10, 20, 30]
    assert done == list(range(35))


async def test_the_next_turn_has_a_share_of_its_own() -> None:
    callbacks = CallbackQueue(most=10)
    done: list[object] = []
    for _ in range(2):
        for number in range(10):
            callbacks.run(partial(done.append, number))
        assert len(done) % 10 == 0
        await asyncio.sleep(0)
    assert len(done) == 20


async def test_what_comes_first_goes_before_all_that_wait() -> None:
    callbacks = CallbackQueue(most=10)
    done: list[object] = []
    for number in range(100):
        callbacks.run(partial(done.append, number))
    callbacks.run(partial(done.append, "first"), first=True)
    await asyncio.sleep(0)
    assert done.index("first") == 10


async def test_one_that_raises_costs_no_other_its_turn() -> None:
    callbacks = CallbackQueue(most=2)
    done: list[object] = []

    def wrong() -> None:
        raise ValueError

    loop, errors = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    one, two = partial(done.append, 1), partial(done.append, 2)
    works: list[Callable[[], object]] = [one, one, wrong, *[two] * 5]
    for work in works:
        callbacks.run(work)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [type(error) for error in errors] == [ValueError]
    assert done == [1, 1, 2, 2, 2, 2, 2]
