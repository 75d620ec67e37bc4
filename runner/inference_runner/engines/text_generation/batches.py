"""Rows that go on together: batches, each with a cache that is padded to its longest row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from inference_runner.engines.text_generation import kv_cache


class Row(Protocol):
    length: int
    """Its tokens in the cache."""


R = TypeVar("R", bound=Row)


class Batch(Generic[R]):
    def __init__(self, rows: list[R], cache: Any) -> None:
        self.rows, self.cache = rows, cache

    @property
    def length(self) -> int:
        return max(row.length for row in self.rows)

    def keep(self, rows: list[R]) -> None:
        """Go on with these of its rows, at least one."""
        at = {id(row): number for number, row in enumerate(self.rows)}
        self.rows = rows
        kv_cache.keep(self.cache, [at[id(row)] for row in rows], self.length)

    def join(self, other: Batch[R]) -> None:
        kv_cache.join(self.cache, other.cache)
        self.rows = self.rows + other.rows

    def padding(self, other: Batch[R]) -> int:
        """Positions that would be filled up if they were one."""
        short, long = sorted((self, other), key=lambda batch: batch.length)
        return len(short.rows) * (long.length - short.length)


class Batches(Generic[R]):
    """
    Args:
        worth: positions of padding that cost as much as a forward of their own.
    """

    def __init__(self, worth: int) -> None:
        self._worth = worth
        self._batches: list[Batch[R]] = []

    def __iter__(self) -> Iterator[Batch[R]]:
        return iter(list(self._batches))

    def __bool__(self) -> bool:
        return bool(self._batches)

    def add(self, rows: list[R], cache: Any) -> None:
        self._batches.append(Batch(rows, cache))
        self._gather()

    def drop(self, batch: Batch[R]) -> None:
        self._batches.remove(batch)

    def keep(self, wanted: Callable[[R], bool]) -> None:
        for batch in self:
            rows = [row for row in batch.rows if wanted(row)]
            if not rows:
                self.drop(batch)
            elif len(rows) < len(batch.rows):
                batch.keep(rows)
        self._gather()

    def _gather(self) -> None:
        """Those become one whose padding costs less than another forward."""
        self._batches.sort(key=lambda batch: batch.length)
        gathered: list[Batch[R]] = []
        for batch in self._batches:
            if gathered and gathered[-1].padding(batch) <= self._worth:
                gathered[-1].join(batch)
            else:
                gathered.append(batch)
        self._batches = gathered
