"""Build the tensors of a step from its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch

from inference_runner.engines.text_generation import schedule
from inference_runner.engines.text_generation.attention import (
    Beginnings,
    Continuation,
    Decoding,
    Step,
)
from inference_runner.engines.text_generation.slot_cache import SlotCache

_STRIDE = 32
"""The number of cached tokens that a step reads is a multiple of it."""


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one sequence, from position `start` on."""

    slot: int
    start: int
    tokens: Sequence[int]

    @property
    def length(self) -> int:
        return self.start + len(self.tokens)


@dataclass
class Packed:
    ids: torch.Tensor
    positions: torch.Tensor
    last: torch.Tensor | None
    """The packed index of the last token of each piece, in the given order. None: each piece is a
    single token."""
    step: Step


class Forward(Protocol):
    def __call__(self, cache: SlotCache, packed: Packed) -> torch.Tensor:
        """Logits [pieces, vocabulary] after the last token of each piece."""
        ...


def pack(
    cache: SlotCache, writing: Sequence[Piece], chunks: Sequence[Piece], device: str
) -> Packed:
    """
    Args:
        writing: a single token each, of neighbouring slots in order.
    """
    first = [number for number, chunk in enumerate(chunks) if not chunk.start]
    groups = [
        [first[at] for at in group]
        for group in schedule.alike([len(chunks[number].tokens) for number in first])
    ]
    groups += [[number] for number, chunk in enumerate(chunks) if chunk.start]
    order = [*writing, *(chunks[number] for group in groups for number in group)]
    last = [0] * (len(writing) + len(chunks))
    placed = chain(range(len(writing)), (len(writing) + n for group in groups for n in group))
    stop = 0
    for piece, number in zip(order, placed, strict=True):
        stop += len(piece.tokens)
        last[number] = stop - 1
    base = [piece.slot * cache.capacity for piece in order]
    ids = [token for piece in order for token in piece.tokens]
    positions = [at for piece in order for at in range(piece.start, piece.length)]
    rows = [
        row + at
        for row, piece in zip(base, order, strict=True)
        for at in range(piece.start, piece.length)
    ]
    sent = _Sent(device)
    wanted = sent.add(ids), sent.add(positions), sent.add(rows), sent.add(last)
    parts, stop = [], len(writing)
    for group in groups:
        start, stop = stop, stop + sum(len(chunks[number].tokens) for number in group)
        parts.append(_Part(start, stop, [chunks[number] for number in group], sent))
    sent.go()
    step = Step(sent[wanted[2]])
    if writing:
        step.decoding = decoding(cache, writing, sent[wanted[1]][: len(writing)])
    step.chunks = [part.made(sent, cache) for part in parts]
    return Packed(sent[wanted[0]], sent[wanted[1]], sent[wanted[3]] if chunks else None, step)


def decoding(cache: SlotCache, writing: Sequence[Piece], positions: torch.Tensor) -> Decoding:
    longest = max(piece.start for piece in writing) + 1
    length = min(-(-longest // _STRIDE) * _STRIDE, cache.capacity)
    first = writing[0].slot
    return Decoding(first, first + len(writing), length, past(positions, length, cache.dtype))


def past(positions: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """[n, 1, 1, length], added to scores: hides what comes after each position."""
    later = torch.arange(length, device=positions.device) > positions[:, None]
    mask = torch.zeros(later.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(later, float("-inf"))[:, None, None]


class _Sent:
    """Lists of integers that are copied to the device in one transfer."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._numbers: list[int] = []
        self._parts: Sequence[torch.Tensor] = ()
        self._sizes: list[int] = []

    def add(self, numbers: Sequence[int]) -> int:
        self._numbers += numbers
        self._sizes.append(len(numbers))
        return len(self._sizes) - 1

    def go(self) -> None:
        sent = on_device(self._numbers, self._device)
        self._parts = torch.split(sent, self._sizes)

    def __getitem__(self, at: int) -> torch.Tensor:
        return self._parts[at]


def on_device(numbers: Sequence[int], device: str) -> torch.Tensor:
    """Copy without waiting for the device's earlier work."""
    if device == "cpu":
        return torch.tensor(numbers)
    return torch.tensor(numbers, pin_memory=True).to(device, non_blocking=True)


class _Part:
    """Chunks that share one call of attention."""

    def __init__(self, start: int, stop: int, chunks: list[Piece], sent: _Sent) -> None:
        self._start, self._stop, self._chunks = start, stop, chunks
        self._size = (len(chunks), max(len(chunk.tokens) for chunk in chunks))
        if len(chunks) == 1:
            return
        pad: list[int] = []
        unpad: list[int] = []
        at = start
        for number, chunk in enumerate(chunks):
            tokens = len(chunk.tokens)
            pad += [*range(at, at + tokens), *[at] * (self._size[1] - tokens)]
            unpad += range(number * self._size[1], number * self._size[1] + tokens)
            at += tokens
        self._pad, self._unpad = sent.add(pad), sent.add(unpad)

    def made(self, sent: _Sent, cache: SlotCache) -> Beginnings | Continuation:
        if len(self._chunks) > 1:
            pad = sent[self._pad].view(self._size)
            return Beginnings(self._start, self._stop, pad, sent[self._unpad])
        chunk = self._chunks[0]
        if not chunk.start:
            return Beginnings(self._start, self._stop)
        positions = torch.arange(chunk.start, chunk.length, device=cache.device)
        mask = past(positions, chunk.length, cache.dtype)[:, 0, 0]
        first = chunk.slot * cache.capacity
        rows = slice(first, first + chunk.length)
        return Continuation(self._start, self._stop, rows, mask)
