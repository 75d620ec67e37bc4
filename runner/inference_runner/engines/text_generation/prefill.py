"""Which prompts the next forward takes. Pure.

A forward is bounded in tokens, padding included, so that neither memory nor the time between two
tokens of the others depends on how long a prompt is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

_SLACK = 16
"""Tokens of padding that are no matter."""


class Prompt(Protocol):
    length: int
    """Tokens that the cache has already."""

    @property
    def missing(self) -> int:
        """Tokens that it has not."""
        ...


P = TypeVar("P", bound=Prompt)


def group(waiting: Sequence[P], budget: int, *, oldest: bool) -> list[P]:
    """The shortest of those that wait, or the oldest, with those of about its length; one that is
    longer than the budget alone, for a chunk of it.

    Args:
        waiting: the oldest first; not empty.
        budget: tokens of a forward.
    """
    first = waiting[0] if oldest else min(waiting, key=lambda one: one.missing)
    chosen = [first]
    if first.length or first.missing > budget:
        return chosen
    others = [one for one in waiting if one is not first and not one.length]
    for one in sorted(others, key=lambda one: abs(one.missing - first.missing)):
        lengths = [each.missing for each in (*chosen, one)]
        if max(lengths) * len(lengths) > budget or max(lengths) > 2 * min(lengths) + _SLACK:
            break
        chosen.append(one)
    return chosen


class PrefillTurns:
    """Prompts and tokens take turns: while somebody's tokens come, prompts get half of the time."""

    def __init__(self) -> None:
        self._ahead = 0.0
        """Seconds that prompts have had more than tokens."""
        self._oldest = False

    @property
    def is_prompts(self) -> bool:
        return self._ahead <= 0

    def oldest(self) -> bool:
        """Whether the oldest prompt is next, or the shortest: by turns, so that none starves."""
        self._oldest = not self._oldest
        return not self._oldest

    def had_prompts(self, seconds: float, *, somebody_waited: bool) -> None:
        self._ahead += seconds if somebody_waited else 0.0

    def had_tokens(self, seconds: float) -> None:
        self._ahead = max(self._ahead - seconds, 0.0)
