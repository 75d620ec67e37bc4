"""Which prompt tokens the next step processes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

SMALLEST_CHUNK = 32
"""Smallest number of tokens in a chunk: a forward with fewer takes as long."""
_KEEP = 0.8
"""Weight of the old estimate when a measurement is added."""


class Prompt(Protocol):
    @property
    def missing(self) -> int:
        """Tokens that are not in the cache yet."""
        ...


P = TypeVar("P", bound=Prompt)


def chunks(prompts: Sequence[P], budget: int) -> list[tuple[P, int]]:
    """The prompts to process, with the number of tokens of each, `budget` in all at most.

    The oldest gets half at least, so that none starves; the rest goes to the shortest, so that
    they need not wait for a long one.

    Args:
        prompts: the oldest first; each has at least one missing token.
    """
    if not prompts:
        return []
    oldest, *others = prompts
    first = min(oldest.missing, max(budget // 2, 1))
    left = budget - first
    taken = []
    for prompt in sorted(others, key=lambda one: one.missing):
        tokens = min(prompt.missing, left)
        if not tokens:
            break
        taken.append((prompt, tokens))
        left -= tokens
    return [(oldest, min(oldest.missing, first + left)), *taken]


@dataclass
class Pace:
    """Measures how fast this machine processes prompts, so that a step with a chunk takes about
    twice as long as one without.

    Args:
        most: prompt tokens in a step while no text waits for its next token.
        least: fewer prompt tokens would hardly make a step shorter.
        step_seconds: estimate for a step without prompts.
        token_seconds: estimate for one prompt token.
    """

    most: int
    least: int = SMALLEST_CHUNK
    step_seconds: float = 0.0
    token_seconds: float = 0.0

    def budget(self, *, is_generating: bool) -> int:
        if not is_generating:
            return self.most
        tokens = int(self.step_seconds / self.token_seconds) if self.token_seconds else 0
        return min(max(tokens, self.least), self.most)

    def took(self, seconds: float, tokens: int, *, is_generating: bool) -> None:
        """Record the time of a step with so many prompt tokens."""
        if not tokens:
            self.step_seconds = self._mixed(self.step_seconds, seconds)
        elif tokens >= SMALLEST_CHUNK:
            rest = seconds - (self.step_seconds if is_generating else 0.0)
            found = max(rest, seconds / 10) / tokens
            self.token_seconds = self._mixed(self.token_seconds, found)

    def _mixed(self, before: float, now: float) -> float:
        """The new estimate; an outlier counts little."""
        return _KEEP * before + (1 - _KEEP) * min(now, 2 * before) if before else now


def alike(lengths: Sequence[int], slack: int = 16) -> list[list[int]]:
    """Indexes of these lengths, in groups to pad to the longest of each: at most half of a group is
    padding, apart from `slack`."""
    groups: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        if groups and lengths[at] <= 2 * lengths[groups[-1][0]] + slack:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def capacity(tokens: int, smallest: int, largest: int) -> int:
    """Capacity of a slot for so many tokens: the smallest, doubled; at most the largest."""
    size = smallest
    while size < tokens:
        size *= 2
    return max(min(size, largest), tokens)


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens in the common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
