"""A causal language model of transformers, called with rows that are padded on the left."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from inference_runner.engines.text_generation import kv_cache


class Causal:
    def __init__(self, model: Any) -> None:
        self._model = model
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._positions = "position_ids" in takes
        self.regroups = self._positions and kv_cache.can_regroup(self.new_cache())
        """Whether rows can join and leave, and prompts come in chunks."""
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])

    def new_cache(self) -> Any:
        return DynamicCache(config=self._model.config)

    def worth(self) -> int:
        """Positions of padding that cost about as much as one more forward.

        A forward reads the weights; of a position the cache is read twice and written, by attention
        and by what appends to it. Rounded up to four times.
        """
        if not self.regroups:
            return 0
        cache = self.new_cache()
        self.forward([1], [[0]], [[0]], cache)
        position = sum(
            states.nbytes for layer in cache.layers for states in (layer.keys, layer.values)
        )
        weights = sum(weight.nbytes for weight in self._model.parameters())
        return int(weights / (4 * position))

    @torch.inference_mode()
    def forward(
        self, lengths: Sequence[int], ids: list[list[int]], positions: list[list[int]], cache: Any
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] of the last position.

        Args:
            lengths: how many tokens each row has, the new ones included; the rest is padding.
        """
        device = self._model.device
        total = cache.get_seq_length() + len(ids[0])
        padding = [total - length for length in lengths]
        mask = None
        if any(padding):
            first = torch.tensor(padding, device=device)
            mask = (torch.arange(total, device=device) >= first[:, None]).long()
        extra: dict[str, Any] = dict(self._last_only)
        if self._positions:
            extra["position_ids"] = torch.tensor(positions, device=device)
        out = self._model(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits
