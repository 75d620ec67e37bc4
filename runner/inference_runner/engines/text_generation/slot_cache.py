"""Keys and values of the admitted sequences: one buffer, divided into slots of equal capacity.

The buffer never grows. The capacity of a slot follows the longest admitted sequence: twice the
capacity is half the slots. On a CPU, pages that were never written take no memory.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class CacheShape:
    """What a model's attention layers keep of one token."""

    layers: int
    heads: int
    dim: int
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return 2 * self.layers * self.heads * self.dim * self.dtype.itemsize


class SlotCache:
    """
    Args:
        tokens: what it holds, over all slots.
        capacity: tokens of one slot.
    """

    def __init__(self, shape: CacheShape, tokens: int, capacity: int, device: str) -> None:
        self.tokens = tokens
        # One more row: the padding of a captured step is written there.
        self.spare_row = tokens
        size = (shape.layers, 2, tokens + 1, shape.heads, shape.dim)
        self.dtype, self.device = shape.dtype, device
        self._states = _zeros(size, shape.dtype, device)
        self._rows = [(layer[0], layer[1]) for layer in self._states]
        self.lay_out(capacity)

    @property
    def count(self) -> int:
        return self.tokens // self.capacity

    def lay_out(self, capacity: int) -> None:
        """Divide the same rows into slots of another capacity; their content does not move."""
        self.capacity = capacity
        used = self.count * capacity
        self._slots = [
            tuple(states[:used].unflatten(0, (self.count, capacity)) for states in layer)
            for layer in self._rows
        ]

    def grow(self, capacity: int, lengths: list[int]) -> None:
        """Make slots longer. The first slots keep `lengths` tokens each."""
        old = self.capacity
        # From the last slot on, so that no slot is overwritten before it was moved.
        for slot, length in reversed(list(enumerate(lengths))):
            source = self._states[:, :, slot * old : slot * old + length]
            self._states[:, :, slot * capacity : slot * capacity + length] = source.clone()
        self.lay_out(capacity)

    def write(
        self, layer: int, rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Write [T, heads, dim] to these rows [T] of the buffer."""
        into_keys, into_values = self._rows[layer]
        into_keys.index_copy_(0, rows, keys)
        into_values.index_copy_(0, rows, values)

    def read(
        self, layer: int, first: int, last: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [slots, heads, length, dim] of the slots from `first` to before `last`.

        Views: nothing is copied."""
        keys, values = self._slots[layer]
        return (
            keys[first:last, :length].transpose(1, 2),
            values[first:last, :length].transpose(1, 2),
        )

    def rows(self, layer: int, rows: slice | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [rows, heads, dim] of these rows of the buffer: a view for a slice."""
        keys, values = self._rows[layer]
        return keys[rows], values[rows]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first tokens of a slot."""
        if length:
            self._part(target, length).copy_(self._part(source, length))

    def swap(self, one: int, length: int, other: int, other_length: int) -> None:
        held = self._part(other, other_length).clone()
        self.copy(one, other, length)
        self._part(one, other_length).copy_(held)

    def clear(self, slot: int) -> None:
        """Masked values must be finite too: zero times NaN is NaN."""
        self._part(slot, self.capacity).zero_()

    def _part(self, slot: int, length: int) -> torch.Tensor:
        first = slot * self.capacity
        return self._states[:, :, first : first + length]


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    if device != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    items = 1
    for part in size:
        items *= part
    # The system's pages are zero already, and take no memory until they are written.
    pages = mmap.mmap(-1, items * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(size)
