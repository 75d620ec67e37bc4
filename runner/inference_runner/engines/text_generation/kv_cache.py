"""Joining and leaving a batch: rows of a key-value cache of transformers, padded on the left.

Every tensor is [rows, heads, length, dimension]; a row's own tokens are its last ones.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it


def can_regroup(cache: Any) -> bool:
    """Whether every layer is the plain growing kind. Sliding windows and states are not."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in cache.layers)


def join(cache: Any, newcomers: Any) -> None:
    """Append the newcomers' rows to `cache`, the shorter padded on the left."""
    for layer, other in zip(cache.layers, newcomers.layers, strict=True):
        length = max(layer.keys.shape[-2], other.keys.shape[-2])
        layer.keys = torch.cat([_pad(layer.keys, length), _pad(other.keys, length)])
        layer.values = torch.cat([_pad(layer.values, length), _pad(other.values, length)])


def keep(cache: Any, rows: list[int], length: int) -> None:
    """Keep these rows only, and of each the last `length` positions."""
    for layer in cache.layers:
        layer.keys = layer.keys[rows, :, -length:].contiguous()
        layer.values = layer.values[rows, :, -length:].contiguous()


def _pad(states: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - states.shape[-2]
    return F.pad(states, (0, 0, missing, 0)) if missing else states
