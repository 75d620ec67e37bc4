"""Which decoder a model gets: continuous batching, if its scores are the same in a trial."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache

from inference_runner.engines import pretrained
from inference_runner.engines.base import EngineError, EngineOptions
from inference_runner.engines.text_generation import trial
from inference_runner.engines.text_generation.decoders import Decoder, LoneDecoder, SlotDecoder
from inference_runner.engines.text_generation.generic import GenericForward, Unsupported
from inference_runner.engines.text_generation.llama import LlamaForward, is_llama
from inference_runner.engines.text_generation.slot_cache import SlotCache

log = logging.getLogger(__name__)

SMALLEST_SLOT = 1024
"""Tokens."""
CPU_CACHE_BYTES = 1 << 30
GPU_CACHE_SHARE = 0.6
"""Share of the memory that is free after the model is loaded; the rest is for activations."""
_CHANGING_ROTATIONS = frozenset({"dynamic", "longrope"})


@torch.inference_mode()
def decoder(models: list[Any], load: Callable[[], Any], options: EngineOptions) -> Decoder:
    """
    Args:
        models: a list with the model, which is removed from it: our forward takes its weights one
            by one, and no other reference may keep them in memory.
        load: loads the model again, after a trial that has made it unusable.
    """
    model = models.pop()
    longest = pretrained.positions(model)
    reason = obstacle(model)
    if reason is None:
        expected = trial.reference(model, longest)
        for is_ours in (True, False) if is_llama(model) else (False,):
            try:
                forward: Any = LlamaForward(model, longest) if is_ours else GenericForward(model)
                del model
                trial.check(forward, expected, longest, options.device)
                return _over_slots(forward, longest, options)
            except Unsupported as error:
                reason = str(error)
                log.info("not with a forward of ours: %s", reason)
                model = load()
    log.warning("no continuous batching, one request at a time: %s", reason)
    return LoneDecoder(model, longest)


def obstacle(model: Any) -> str | None:
    """What slots cannot do, as far as the configuration tells; the trial finds the rest."""
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    kinds = {type(layer).__name__ for layer in DynamicCache(config=config).layers}
    if kinds != {"DynamicLayer"}:
        return f"its cache has layers of another kind: {', '.join(sorted(kinds))}"
    rotations = getattr(config, "rope_parameters", None) or {}
    if rotations.get("rope_type") in _CHANGING_ROTATIONS:
        return "its rotations change with the length of the text"
    return None


def _over_slots(forward: Any, longest: int, options: EngineOptions) -> Decoder:
    shape, device = forward.shape, options.device
    tokens = _cache_bytes(options) // shape.bytes
    # At most twice the tokens of all active texts: the other half keeps prefixes.
    tokens = min(max(tokens, 1), 2 * options.max_batch_size * longest)
    longest = min(longest, tokens)
    capacity = min(SMALLEST_SLOT, longest)
    slots = min(options.max_batch_size, tokens // capacity)
    if device == "cuda":
        # cuDNN plans again for each length, which takes longer than a step.
        torch.backends.cuda.enable_cudnn_sdp(False)
    cache = SlotCache(shape, tokens, capacity, device)
    return SlotDecoder(forward, cache, slots=slots, longest=longest, graphs=device == "cuda")


def _cache_bytes(options: EngineOptions) -> int:
    """Raises EngineError."""
    asked = options.parameters.get("kv_cache_mib")
    if asked is not None:
        if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
            raise EngineError(f"engine.parameters.kv_cache_mib must be at least 1, not {asked!r}")
        return asked << 20
    if options.device == "cpu":
        return CPU_CACHE_BYTES
    free, _ = torch.cuda.mem_get_info()
    return int(GPU_CACHE_SHARE * free)
