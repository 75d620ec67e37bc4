"""CUDA graphs of steps: one token for each of the first slots, and at most one chunk of a prompt.

A step of a small model is hundreds of kernels of some microseconds; starting them one by one takes
longer than they do. A graph is started whole. It is captured when its size is first met: sizes are
few, for both rows and cached tokens are rounded up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from inference_runner.engines.text_generation import packing
from inference_runner.engines.text_generation.attention import Continuation, Decoding, Step
from inference_runner.engines.text_generation.packing import Forward, Packed, Piece
from inference_runner.engines.text_generation.slot_cache import SlotCache

log = logging.getLogger(__name__)

Replay = Callable[[], None]

CHUNKS = (64, 128, 256, 512)
"""Sizes of a graph's chunk of a prompt, in tokens; a smaller chunk is padded to the next one."""
_SHORTEST = 256
_MOST_GRAPHS = 256
"""Each keeps some memory of the driver."""


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
    """The largest of CHUNKS that is not above `tokens`, or the smallest of all."""
    return max((size for size in CHUNKS if size <= tokens), default=CHUNKS[0])


class CudaCapture:
    """All graphs share one memory pool, since only one of them runs at a time."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, compute: Callable[[], torch.Tensor]) -> tuple[Replay, torch.Tensor]:
        new_stream: Any = torch.cuda.Stream  # untyped
        side = new_stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # One-time setup of libraries must not be captured.
            compute()
        torch.cuda.current_stream().wait_stream(side)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = compute()
        return graph.replay, result


class Size(NamedTuple):
    """The shape of a captured step."""

    rows: int
    """Sequences whose next token is computed."""
    chunk: int
    """Tokens of a prompt."""
    length: int
    """Cached tokens that attention reads of each sequence."""
    capacity: int
    """Of a slot."""


class StepGraphs:
    """
    Args:
        most_rows: of a step.
        capture: takes a computation; returns a function that repeats it, and its result's tensor.
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
        """Whether a step has a chunk → why such steps run without graphs."""

    def run(self, writing: Sequence[Piece], chunks: Sequence[Piece]) -> torch.Tensor | None:
        """Logits after the last token of each piece; None if this step cannot be captured."""
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
        """Why some steps, or all, run without graphs."""
        return "; ".join(self._failures.values()) or None

    @property
    def sizes(self) -> list[Size]:
        """The captured shapes."""
        return list(self._graphs)

    def _size(self, writing: Sequence[Piece], chunks: Sequence[Piece]) -> Size:
        cache = self._cache
        rows = min(rows_bucket(len(writing)), cache.count)
        chunk = next(size for size in (0, *CHUNKS) if size >= sum(len(c.tokens) for c in chunks))
        longest = max(piece.length for piece in (*writing, *chunks))
        return Size(rows, chunk, min(length_bucket(longest), cache.capacity), cache.capacity)

    def _fill(self, writing: Sequence[Piece], chunks: Sequence[Piece], size: Size) -> None:
        """Write a graph's inputs: ids, positions and buffer rows of all its tokens; then the buffer
        row where the chunk's sequence begins, and the packed index of the chunk's last token."""
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
        """Copy to one tensor shared by all graphs; a tensor each would take megabytes."""
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
        return self._forward(self._cache, Packed(ids, positions, last, step))
