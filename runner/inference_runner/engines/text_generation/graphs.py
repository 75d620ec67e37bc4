"""CUDA graphs of steps that only write: one token for each of the first slots.

A step of a small model is hundreds of kernels of some microseconds; starting them one by one takes
longer than they do. A graph is started whole. It is captured when its size is first met: sizes are
few, for both rows and cached tokens are rounded up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from inference_runner.engines.text_generation import packing
from inference_runner.engines.text_generation.attention import Decoding, Step
from inference_runner.engines.text_generation.packing import Piece
from inference_runner.engines.text_generation.slot_cache import SlotCache

log = logging.getLogger(__name__)

Replay = Callable[[], None]

_SHORTEST = 256
_MOST_GRAPHS = 64
"""Each keeps its output, and memory of the driver."""


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
    """1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, …"""
    size = 1 << (rows - 1).bit_length()
    return size * 3 // 4 if size >= 32 and rows <= size * 3 // 4 else size


def length_bucket(length: int) -> int:
    """256, 384, 512, 768, 1024, …"""
    size = max(_SHORTEST, 1 << (length - 1).bit_length())
    return size * 3 // 4 if size > _SHORTEST and length <= size * 3 // 4 else size


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


class DecodeGraphs:
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
        self._inputs = torch.zeros(3, rows_bucket(most_rows), dtype=torch.long, device=cache.device)
        self._graphs: dict[tuple[int, int, int], tuple[Replay, torch.Tensor]] = {}
        self._capture = capture or CudaCapture()
        self.failure: str | None = None
        """Why steps run without them."""

    def run(self, writing: Sequence[Piece]) -> torch.Tensor | None:
        """Logits of these; None: this step cannot be captured."""
        cache = self._cache
        if self.failure is not None or writing[0].slot:
            return None
        count = len(writing)
        rows = min(rows_bucket(count), cache.count)
        longest = max(piece.length for piece in writing)
        length = min(length_bucket(longest), cache.capacity)
        self._fill(writing, rows)
        size = (rows, length, cache.capacity)
        found = self._graphs.get(size) or self._captured(size)
        if found is None:
            return None
        replay, logits = found
        replay()
        return logits[:count]

    @property
    def sizes(self) -> list[tuple[int, int, int]]:
        """Rows, cached tokens and capacity of what was captured."""
        return list(self._graphs)

    def _fill(self, writing: Sequence[Piece], rows: int) -> None:
        padding = rows - len(writing)
        capacity, spare = self._cache.capacity, self._cache.spare_row
        numbers = [piece.tokens[0] for piece in writing] + [0] * padding
        numbers += [piece.start for piece in writing] + [0] * padding
        numbers += [piece.slot * capacity + piece.start for piece in writing] + [spare] * padding
        sent = packing.on_device(numbers, self._cache.device).view(3, rows)
        self._inputs[:, :rows].copy_(sent)

    def _captured(self, size: tuple[int, int, int]) -> tuple[Replay, torch.Tensor] | None:
        if len(self._graphs) >= _MOST_GRAPHS:
            self._graphs.pop(next(iter(self._graphs)))
        rows, length, _ = size
        try:
            self._graphs[size] = self._capture(lambda: self._step(rows, length))
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            log.warning("steps run without CUDA graphs: %s", self.failure)
            return None
        return self._graphs[size]

    def _step(self, rows: int, length: int) -> torch.Tensor:
        ids, positions, at = (part[:rows] for part in self._inputs)
        mask = packing.past(positions, length, self._cache.dtype)
        step = Step(at, Decoding(0, rows, length, mask))
        return self._forward(self._cache, step, ids, positions, None)
