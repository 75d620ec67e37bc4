"""Compares a forward over slots with the model itself.

Two sequences of some tokens are processed in chunks and then token by token, and the scores
compared with the model's own. This detects features that our attention function does not implement,
such as positions that are added to scores.
"""

from __future__ import annotations

from typing import Any

import torch

from inference_runner.engines.text_generation.generic import Unsupported
from inference_runner.engines.text_generation.packing import Piece, pack
from inference_runner.engines.text_generation.slot_cache import SlotCache

_TOKENS, _WRITTEN = 24, 3
_FEWEST = 8
_CLOSE = {torch.float32: 1e-3}
_CLOSE_IN_HALF = 0.1
"""Largest difference from the model's scores, relative to their size."""


def _ids(longest: int, vocabulary: int) -> list[int]:
    return [(7 + 13 * at * at) % vocabulary for at in range(min(_TOKENS, longest))]


def reference(model: Any, longest: int) -> torch.Tensor:
    """The scores [tokens, vocabulary] of the last tokens."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    ids = torch.tensor([_ids(longest, vocabulary)], device=model.device)
    scores: torch.Tensor = model(input_ids=ids).logits[0, -_WRITTEN - 1 :]
    return scores.float()


def check(forward: Any, expected: torch.Tensor, longest: int, device: str) -> None:
    """Raises Unsupported if the scores differ."""
    if longest < _FEWEST:
        raise Unsupported(f"it has {longest} positions only")
    try:
        found = _found(forward, longest, device)
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported(f"{type(error).__name__}: {error}") from error
    distance = (found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-9)
    limit = _CLOSE.get(forward.shape.dtype, _CLOSE_IN_HALF)
    if expected.isfinite().all() and not (distance <= limit).all():
        raise Unsupported(f"its scores differ by {float(distance.max()):.2g} of their size")


def _found(forward: Any, longest: int, device: str) -> torch.Tensor:
    """[sequences, tokens, vocabulary]"""
    ids = _ids(longest, forward.vocabulary)
    read = len(ids) - _WRITTEN
    half = read // 2
    cache = SlotCache(forward.shape, 2 * len(ids), len(ids), device)

    def run(writing: list[Piece], chunks: list[Piece]) -> torch.Tensor:
        packed = pack(cache, writing, chunks, device)
        found: torch.Tensor = forward(cache, packed)
        return found.float()

    run([], [Piece(0, 0, ids[:half]), Piece(1, 0, ids[: half - 1])])
    scores = [run([], [Piece(0, half, ids[half:read]), Piece(1, half - 1, ids[half - 1 : read])])]
    scores += [
        run([Piece(slot, at, ids[at : at + 1]) for slot in (0, 1)], [])
        for at in range(read, len(ids))
    ]
    first, second = (torch.stack([one[slot] for one in scores]) for slot in (0, 1))
    return torch.stack((first, second))
