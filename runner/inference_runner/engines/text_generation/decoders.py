"""Decoders run a model's forward: over slots, or for one sequence at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from inference_runner.engines.text_generation.graphs import StepGraphs, chunk_within
from inference_runner.engines.text_generation.packing import Forward, Piece, pack
from inference_runner.engines.text_generation.row import Row
from inference_runner.engines.text_generation.slot_cache import SlotCache
from inference_runner.engines.text_generation.slots import Slots


@dataclass(frozen=True)
class Work:
    """What a step does: the next token of some sequences, and a chunk of the prompts of others."""

    writing: list[Row]
    chunks: list[tuple[Row, int]]

    @property
    def rows(self) -> list[Row]:
        return [*self.writing, *(row for row, _ in self.chunks)]

    @property
    def prompt_tokens(self) -> int:
        return sum(tokens for _, tokens in self.chunks)

    def halves(self, error: Exception) -> list[Work]:
        """Smaller work to do instead after this error: both halves; for a single prompt, a part of
        its chunk if memory ran out. None if nothing smaller is left."""
        writing, chunks = self.writing, self.chunks
        if writing and chunks:
            return [Work(writing, []), Work([], chunks)]
        if len(writing) > 1:
            middle = len(writing) // 2
            return [Work(writing[:middle], []), Work(writing[middle:], [])]
        if len(chunks) > 1:
            middle = len(chunks) // 2
            return [Work([], chunks[:middle]), Work([], chunks[middle:])]
        if chunks and chunks[0][1] > 1 and isinstance(error, torch.OutOfMemoryError):
            row, tokens = chunks[0]
            return [Work([], [(row, tokens // 2)])]
        return []


class Decoder(Protocol):
    slots: int
    """Most sequences at once."""
    longest: int
    """Most tokens of a sequence."""
    in_chunks: bool
    """Whether prompts may be processed in chunks."""

    def admit(self, row: Row) -> bool:
        """Admit a sequence; its length becomes the number of tokens that the cache already has.
        False if there is no room yet."""
        ...

    def leave(self, row: Row, *, sound: bool = True) -> None: ...

    def rows(self) -> list[Row]:
        """The admitted sequences."""
        ...

    def writing(self) -> list[Row]:
        """Those that are being generated, in the order that `Work` needs."""
        ...

    def chunk(self, tokens: int) -> int:
        """The best number of prompt tokens for a step that also generates, `tokens` at most (or the
        smallest chunk)."""
        ...

    def run(self, work: Work) -> torch.Tensor:
        """Logits [rows, vocabulary] after the last token of each row of the work."""
        ...


class SlotDecoder:
    """All of a step's tokens in one packed row."""

    def __init__(
        self, forward: Forward, cache: SlotCache, *, slots: int, longest: int, graphs: bool
    ) -> None:
        self.slots, self.longest, self.in_chunks = slots, longest, True
        self.forward, self.cache = forward, cache
        self._slots: Slots[Row] = Slots(cache, longest)
        self.graphs = StepGraphs(forward, cache, slots) if graphs else None

    def admit(self, row: Row) -> bool:
        reused = self._slots.admit(row)
        row.text.cached = reused or 0
        return reused is not None

    def leave(self, row: Row, *, sound: bool = True) -> None:
        self._slots.leave(row, sound=sound)

    def rows(self) -> list[Row]:
        return list(self._slots)

    def writing(self) -> list[Row]:
        return self._slots.arrange()

    def chunk(self, tokens: int) -> int:
        return tokens if self.graphs is None else chunk_within(tokens)

    def run(self, work: Work) -> torch.Tensor:
        writing = [Piece(row.slot, row.length, row.next(1)) for row in work.writing]
        chunks = [Piece(row.slot, row.length, row.next(count)) for row, count in work.chunks]
        if self.graphs is not None:
            logits = self.graphs.run(writing, chunks)
            if logits is not None:
                return logits
        packed = pack(self.cache, writing, chunks, self.cache.device)
        return self.forward(self.cache, packed)


class LoneDecoder:
    """transformers' own forward and cache, one sequence at a time, for models without slots."""

    def __init__(self, model: Any, longest: int) -> None:
        self.slots, self.longest, self.in_chunks = 1, longest, False
        self._model, self._row, self._cache = model, None, None

    _row: Row | None
    _cache: Any

    def admit(self, row: Row) -> bool:
        if self._row is not None:
            return False
        self._row, self._cache = row, DynamicCache(config=self._model.config)
        return True

    def leave(self, row: Row, *, sound: bool = True) -> None:  # noqa: ARG002 - as slots have it
        self._row = self._cache = None

    def rows(self) -> list[Row]:
        return [] if self._row is None else [self._row]

    def writing(self) -> list[Row]:
        return [row for row in self.rows() if row.is_writing]

    def chunk(self, tokens: int) -> int:
        return tokens

    def run(self, work: Work) -> torch.Tensor:
        (row,) = work.rows
        ids = row.next(work.prompt_tokens or 1)
        out = self._model(
            input_ids=torch.tensor([ids], device=self._model.device),
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits
