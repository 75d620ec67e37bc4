"""When the garbage collector looks at everything, which stops all threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from inference_gateway.background import memory
from inference_gateway.background.memory import MemoryReclaim

GROWS = """
import gc
from inference_gateway.background import memory

memory.keep_for_good()
full = []
gc.callbacks.append(lambda phase, info: full.append(info["generation"] == 2))
kept = [[number] for number in range(200_000)]
assert len(full) > 100
print(sum(full))
"""
"""As much as 1,800 streams hold."""


class Thing:
    """In a circle of references."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def garbage() -> Iterator[weakref.ref[Thing]]:
    """Something that only a full collection finds, after much has grown."""
    gc.collect()
    gc.disable()
    thing = Thing()
    for _ in range(12):
        gc.collect(1)
    found = weakref.ref(thing)
    del thing
    yield found
    gc.enable()


def test_what_thousands_of_connections_hold_is_not_looked_through() -> None:
    argv = [sys.executable, "-c", GROWS]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_garbage_is_found_when_few_are_connected(garbage: weakref.ref[Thing]) -> None:
    MemoryReclaim(lambda: 10).step()
    assert garbage() is None


def test_garbage_is_found_when_the_process_has_grown(
    garbage: weakref.ref[Thing], monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect(0)
    sizes = [100_000_000]
    monkeypatch.setattr(memory, "_resident", lambda: sizes[-1])
    monkeypatch.setattr(memory, "_USUAL", 1000)
    reclaiming = MemoryReclaim(lambda: 10)
    trimmed: list[int] = []
    monkeypatch.setattr(reclaiming, "_trim", trimmed.append)
    reclaiming.step()
    assert garbage() is not None
    sizes.append(120_000_000)
    for _ in range(2):  # then it is not larger than before
        reclaiming.step()
        assert garbage() is None
        assert trimmed == [0]


def test_it_is_left_while_many_are(garbage: weakref.ref[Thing]) -> None:
    MemoryReclaim(lambda: 5000).step()
    assert garbage() is not None


def test_without_growth_nothing_is_looked_at(garbage: weakref.ref[Thing]) -> None:
    gc.collect()
    seen: list[object] = []
    gc.callbacks.append(lambda *_: seen.append(1))
    MemoryReclaim(lambda: 10).step()
    gc.callbacks.pop()
    assert seen == []
