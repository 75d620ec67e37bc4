"""CUDA graphs of steps: one token for each of the first slots, and a chunk of one prompt at most.

A step of a small model is hundreds of kernels of some microseconds; starting them one by one takes
longer than they do. A graph is started whole. It is captured when its size is first met: sizes are
few, for both rows and cached tokens are rounded up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from inference_runner.engines.text_generation import packing
from inference_runner.engines.text_generation.attention import Continuation, Decoding, Step
from inference_runner.engines.text_generation.packing import Piece
from inference_runner.engines.text_generation.slot_cache import SlotCache

log = logging.getLogger(__name__)

Replay = Callable[[], None]

CHUNKS = (64, 128, 256, 512)
"""Tokens of a prompt in a graph: fewer are padded."""
_SHORTEST = 256
_MOST_GRAPHS = 256
"""Each keeps some memory of the driver."""


class Forward(Protocol):
    def __call__(
        self,
        cache: SlotCache,
        step: Step,
        ids: torch.Tensor,
        positions: torch.Tensor,
        last: torch.Tensor | None,
    ) -> torch.Tensor: ...


def rows_bucket(rows: int) -> int:
    """0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, …"""
    if not rows:
        return 0
    size = 1 << (rows - 1).bit_length()
    return size * 3 // 4 if size >= 32 and rows <= size * 3 // 4 else size


def length_bucket(length: int) -> int:
    """256, 384, 512, 768, 1024, …"""
    size = max(_SHORTEST, 1 << (length - 1).bit_length())
    return size * 3 // 4 if size > _SHORTEST and length <= size * 3 // 4 else size


def chunk_within(tokens: int) -> int:
    """The largest chunk of a graph that is not more than these, and the smallest at least."""
    return max((size for size in CHUNKS if size <= tokens), default=CHUNKS[0])


class CudaCapture:
    """All graphs share one pool of memory: only one of them is at work."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, compute: Callable[[], torch.Tensor]) -> tuple[Replay, torch.Tensor]:
        new_stream: Any = torch.cuda.Stream  # untyped
        side = new_stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # What libraries set up once must not be captured.
            compute()
        torch.cuda.current_stream().wait_stream(side)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = compute()
        return graph.replay, result


class Size(NamedTuple):
    """What was captured."""

    rows: int
    """Sequences of which the next token is computed."""
    chunk: int
    """Tokens of a prompt."""
    length: int
    """Cached tokens that are read of each sequence."""
    capacity: int
    """Of a slot."""


class StepGraphs:
    """
    Args:
        most_rows: of a step.
        capture: a computation → what does it again, and where its result is then.
    """

    def __init__(
        self,
        forward: Forward,
        cache: SlotCache,
        most_rows: int,
        capture: Callable[[Callable[[], torch.Tensor]], tuple[Replay, torch.Tensor]] | None = None,
    ) -> None:
        self._forward, self._cache = forward, cache
        self._most_rows = rows_bucket(most_rows)
        most = 3 * (self._most_rows + CHUNKS[-1]) + 2
        self._inputs = torch.zeros(most, dtype=torch.long, device=cache.device)
        self._logits: torch.Tensor | None = None
        self._graphs: dict[Size, tuple[Replay, torch.Tensor]] = {}
        self._capture = capture or CudaCapture()
        self._failures: dict[bool, str] = {}
        """Why steps with a chunk, or those without, run without graphs."""

    def run(self, writing: Sequence[Piece], chunks: Sequence[Piece]) -> torch.Tensor | None:
        """Logits after each of these; None: this step cannot be captured."""
        if bool(chunks) in self._failures or len(chunks) > 1 or (writing and writing[0].slot):
            return None
        if chunks and len(chunks[0].tokens) > CHUNKS[-1]:
            return None
        size = self._size(writing, chunks)
        self._fill(writing, chunks, size)
        found = self._graphs.get(size) or self._captured(size)
        if found is None:
            return None
        replay, logits = found
        replay()
        if not chunks or len(writing) == size.rows:
            return logits[: len(writing) + len(chunks)]
        return torch.cat((logits[: len(writing)], logits[size.rows :]))

    @property
    def failure(self) -> str | None:
        """Why some steps, or all, run without them."""
        return "; ".join(self._failures.values()) or None

    @property
    def sizes(self) -> list[Size]:
        """Of what was captured."""
        return list(self._graphs)

    def _size(self, writing: Sequence[Piece], chunks: Sequence[Piece]) -> Size:
        cache = self._cache
        rows = min(rows_bucket(len(writing)), cache.count)
        chunk = next(size for size in (0, *CHUNKS) if size >= sum(len(c.tokens) for c in chunks))
        longest = max(piece.length for piece in (*writing, *chunks))
        return Size(rows, chunk, min(length_bucket(longest), cache.capacity), cache.capacity)

    def _fill(self, writing: Sequence[Piece], chunks: Sequence[Piece], size: Size) -> None:
        """The inputs of a graph: ids, positions and rows of the buffer of all its tokens; then
        where the chunk's sequence begins in the buffer, and where the chunk's last token is."""
        spare = self._cache.spare_row
        tokens: list[tuple[int, int, int]] = []
        for pieces, padded in ((writing, size.rows), (chunks, size.rows + size.chunk)):
            for piece in pieces:
                base = piece.slot * size.capacity
                places = range(piece.start, piece.length)
                tokens += zip(piece.tokens, places, (base + at for at in places), strict=True)
            tokens += [(0, 0, spare)] * (padded - len(tokens))
        numbers = [number for part in zip(*tokens, strict=True) for number in part]
        for chunk in chunks:
            numbers += [chunk.slot * size.capacity, size.rows + len(chunk.tokens) - 1]
        sent = packing.on_device(numbers, self._cache.device)
        self._inputs[: len(numbers)].copy_(sent)

    def _captured(self, size: Size) -> tuple[Replay, torch.Tensor] | None:
        if len(self._graphs) >= _MOST_GRAPHS:
            self._graphs.pop(next(iter(self._graphs)))
        try:
            self._graphs[size] = self._capture(lambda: self._kept(self._step(size)))
        except Exception as error:
            self._failures[size.chunk > 0] = reason = f"{type(error).__name__}: {error}"
            kind = "with" if size.chunk else "without"
            log.warning("steps %s a part of a prompt run without CUDA graphs: %s", kind, reason)
            return None
        return self._graphs[size]

    def _kept(self, logits: torch.Tensor) -> torch.Tensor:
        """In one place for all graphs: each of its own would have some megabytes."""
        if self._logits is None:
            self._logits = logits.new_zeros(self._most_rows + 1, logits.shape[-1])
        return self._logits[: len(logits)].copy_(logits)

    def _step(self, size: Size) -> torch.Tensor:
        rows, chunk, length, _ = size
        tokens, dtype = rows + chunk, self._cache.dtype
        ids, positions, at = self._inputs[: 3 * tokens].view(3, tokens)
        step = Step(at)
        if rows:
            step.decoding = Decoding(0, rows, length, packing.past(positions[:rows], length, dtype))
        last = None
        if chunk:
            base, end = self._inputs[3 * tokens : 3 * tokens + 2]
            every = torch.arange(max(rows, length), device=at.device)
            mask = packing.past(positions[rows:], length, dtype)[:, 0, 0]
            step.chunks = [Continuation(rows, tokens, base + every[:length], mask)]
            last = torch.cat((every[:rows], end[None]))
        return self._forward(self._cache, step, ids, positions, last)
