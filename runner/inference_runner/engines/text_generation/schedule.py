"""What the next step takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

SMALLEST_CHUNK = 32
"""Tokens: fewer cost a forward as much."""
_KEEP = 0.8
"""Of an estimate, when another measurement comes."""


class Prompt(Protocol):
    @property
    def missing(self) -> int:
        """Tokens that the cache has not yet."""
        ...


P = TypeVar("P", bound=Prompt)


def chunks(prompts: Sequence[P], budget: int) -> list[tuple[P, int]]:
    """How many tokens of which prompts are read, `budget` at most.

    The oldest gets half at least, so that nobody starves; the rest goes to the shortest, so that
    they need not wait for a long one.

    Args:
        prompts: the oldest first; each misses a token at least.
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
    """How fast this machine reads prompts: so a step with a newcomer takes about twice one without.

    Args:
        most: tokens of prompts in a step while nobody waits for his next token.
        least: fewer would hardly make a step shorter.
        step_seconds: of a step without prompts.
        token_seconds: of a token of a prompt.
    """

    most: int
    least: int = SMALLEST_CHUNK
    step_seconds: float = 0.0
    token_seconds: float = 0.0

    def budget(self, *, somebody_writes: bool) -> int:
        if not somebody_writes:
            return self.most
        tokens = int(self.step_seconds / self.token_seconds) if self.token_seconds else 0
        return min(max(tokens, self.least), self.most)

    def took(self, seconds: float, tokens: int, *, somebody_writes: bool) -> None:
        """A step with so many tokens of prompts."""
        if not tokens:
            self.step_seconds = self._mixed(self.step_seconds, seconds)
        elif tokens >= SMALLEST_CHUNK:
            rest = seconds - (self.step_seconds if somebody_writes else 0.0)
            found = max(rest, seconds / 10) / tokens
            self.token_seconds = self._mixed(self.token_seconds, found)

    def _mixed(self, before: float, now: float) -> float:
        """One that is out of the ordinary counts little."""
        return _KEEP * before + (1 - _KEEP) * min(now, 2 * before) if before else now


def alike(lengths: Sequence[int], slack: int = 16) -> list[list[int]]:
    """Positions of these lengths, in groups that may be padded to their longest: no more than half
    of it is padding, but for `slack`."""
    groups: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        if groups and lengths[at] <= 2 * lengths[groups[-1][0]] + slack:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def capacity(tokens: int, smallest: int, largest: int) -> int:
    """Of a slot that shall hold so many: a doubling of the smallest, the largest at most."""
    size = smallest
    while size < tokens:
        size *= 2
    return max(min(size, largest), tokens)


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
