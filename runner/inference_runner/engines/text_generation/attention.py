"""Attention of a packed step over the slot cache.

A step is one row of tokens: first one token of each sequence that is being generated (those in the
slots `first` to `last`), then chunks of prompts. All keys and values of the step are written to the
buffer before attention reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from inference_runner.engines.text_generation.slot_cache import SlotCache


@dataclass
class Decoding:
    """One token for each of some neighbouring slots."""

    first: int
    last: int
    length: int
    """Cached tokens that are read of each slot: at least those of the longest sequence."""
    mask: torch.Tensor
    """[slots, 1, 1, length], added to the scores."""


@dataclass
class Beginnings:
    """First chunks of prompts: each attends only to itself."""

    start: int
    stop: int
    """Index in the packed row, exclusive."""
    pad: torch.Tensor | None = None
    """[chunks, longest]: the packed token at each place; None: a single chunk."""
    unpad: torch.Tensor | None = None
    """[tokens]: the place of each packed token in `pad`, flattened."""


@dataclass
class Continuation:
    """A chunk that continues an earlier chunk or a shared prefix."""

    start: int
    stop: int
    rows: slice | torch.Tensor
    """[length]: the buffer rows of its sequence, this chunk included."""
    mask: torch.Tensor
    """[tokens, length], added to the scores."""


@dataclass
class Step:
    """What attention needs to know of a step. Tensors are on the model's device."""

    rows: torch.Tensor
    """[T]: the buffer row that takes each token's keys and values."""
    decoding: Decoding | None = None
    chunks: list[Beginnings | Continuation] = field(default_factory=list)


def attend(
    cache: SlotCache,
    layer: int,
    step: Step,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float | None,
) -> torch.Tensor:
    """[T, heads, dim], [T, key heads, dim] twice → [T, heads, dim]."""
    cache.write(layer, step.rows, keys, values)
    parts = []
    if step.decoding is not None:
        parts.append(_decode(cache, layer, step.decoding, query, scale))
    for chunk in step.chunks:
        if isinstance(chunk, Beginnings):
            parts.append(_begin(chunk, query, keys, values, scale))
        else:
            parts.append(_continue(cache, layer, chunk, query, scale))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _decode(
    cache: SlotCache, layer: int, part: Decoding, query: torch.Tensor, scale: float | None
) -> torch.Tensor:
    count, (_, heads, dim) = part.last - part.first, query.shape
    keys, values = cache.read(layer, part.first, part.last, part.length)
    # The query heads that share a key head become rows: `enable_gqa` is several times slower on
    # CPUs.
    grouped = query[:count].reshape(count, keys.shape[1], -1, dim)
    found = F.scaled_dot_product_attention(grouped, keys, values, part.mask, scale=scale)
    return found.reshape(count, heads, dim)


def _begin(
    part: Beginnings,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float | None,
) -> torch.Tensor:
    if part.pad is None or part.unpad is None:
        chunk = (states[None, part.start : part.stop] for states in (query, keys, values))
        return _causal(*chunk, scale=scale).flatten(0, 1)
    chunks = (states[part.pad] for states in (query, keys, values))
    return _causal(*chunks, scale=scale).flatten(0, 1)[part.unpad]


def _causal(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, scale: float | None
) -> torch.Tensor:
    """All [chunks, tokens, heads, dim]."""
    query, keys, values = (states.transpose(1, 2) for states in (query, keys, values))
    keys, values = _repeat(keys, query.shape[1]), _repeat(values, query.shape[1])
    found = F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scale)
    return found.transpose(1, 2)


def _continue(
    cache: SlotCache, layer: int, part: Continuation, query: torch.Tensor, scale: float | None
) -> torch.Tensor:
    keys, values = (states.transpose(0, 1)[None] for states in cache.rows(layer, part.rows))
    chunk = query[part.start : part.stop]
    tokens, heads, dim = chunk.shape
    # As in `_decode`: keys and values need not be repeated for the heads that share them.
    grouped = chunk.reshape(tokens, keys.shape[1], -1, dim).permute(1, 2, 0, 3)
    mask = part.mask.repeat(grouped.shape[1], 1)[None, None]
    found = F.scaled_dot_product_attention(
        grouped.flatten(1, 2)[None], keys, values, mask, scale=scale
    )
    return found.view(grouped.shape).permute(2, 0, 1, 3).reshape(tokens, heads, dim)


def _repeat(states: torch.Tensor, heads: int) -> torch.Tensor:
    """[n, key heads, tokens, dim] → [n, heads, tokens, dim]."""
    times = heads // states.shape[1]
    return states if times == 1 else states.repeat_interleave(times, 1)
