"""One text in the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice

from inference_runner.engines.text_generation.generation import Generation


@dataclass(slots=True, eq=False)
class Row:
    text: Generation
    arrived: int = 0
    """Its position in the order of arrival."""
    length: int = 0
    """Its tokens in the cache."""
    said: list[int] = field(default_factory=list)
    slot: int = -1

    @property
    def prompt(self) -> list[int]:
        return self.text.prompt

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.said

    @property
    def room(self) -> int:
        """Most tokens that it may have."""
        return len(self.prompt) + self.text.sampler.options.max_new_tokens

    @property
    def missing(self) -> int:
        """Tokens of the prompt that are not in the cache yet."""
        return len(self.prompt) - self.length

    @property
    def is_writing(self) -> bool:
        return bool(self.said)

    def next(self, count: int) -> list[int]:
        """The tokens that go into the cache next."""
        if self.said and count == 1:
            return self.said[-1:]
        return list(islice(chain(self.prompt, self.said), self.length, self.length + count))
