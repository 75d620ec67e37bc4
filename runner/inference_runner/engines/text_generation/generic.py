"""Any causal language model of transformers, with our attention function in place of its own."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn
from transformers import AttentionInterface

from inference_runner.engines.text_generation.attention import Step, attend
from inference_runner.engines.text_generation.linears import Linear, Part
from inference_runner.engines.text_generation.packing import Packed
from inference_runner.engines.text_generation.slot_cache import CacheShape, SlotCache

_NAME = "slots"
_UNKNOWN = ("softcap", "s_aux", "position_bias", "sliding_window")
"""Arguments that our attention function does not implement: it refuses a model that uses one."""
_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_CLOSE = 2e-2


class Unsupported(Exception):
    """Attention over slots does not support a feature of this model, named in the message."""


class _Now:
    """The current step: transformers has no way to pass it to an attention function."""

    cache: SlotCache
    step: Step | None = None
    """None while only the shape of the model's keys is determined."""
    seen: ClassVar[set[tuple[int, ...]]] = set()


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: Any,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """[1, heads, T, dim] → [1, T, heads, dim]."""
    used = [name for name in _UNKNOWN if more.get(name) is not None]
    if used:
        raise Unsupported(f"its attention has {used[0]}")
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    if key.shape != value.shape:
        raise Unsupported("its keys and values differ in shape")
    if _Now.step is None:
        _Now.seen.add(tuple(key.shape[1:]))
        return torch.zeros_like(query)[None], None
    found = attend(_Now.cache, module.layer_idx, _Now.step, query, key, value, scaling)
    return found[None], None


class GenericForward:
    """Raises Unsupported if the model does not accept an attention function."""

    def __init__(self, model: Any) -> None:
        if not getattr(model, "_supports_attention_backend", False):
            raise Unsupported(f"{type(model).__name__} has no choice of attention")
        takes = inspect.signature(model.forward).parameters
        if not {"position_ids", "logits_to_keep"} <= set(takes):
            raise Unsupported("its forward takes no positions")
        AttentionInterface.register(_NAME, _attention)
        model.set_attn_implementation(_NAME)
        self._model = model
        config = model.config.get_text_config()
        heads, dim = self._kept_of_a_token()
        self.shape = CacheShape(config.num_hidden_layers, heads, dim, model.dtype)
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self._speed_up()

    def _kept_of_a_token(self) -> tuple[int, ...]:
        """Key heads and their dimension, of every layer."""
        _Now.seen, _Now.step = set(), None
        token = torch.zeros(1, 1, dtype=torch.long, device=self._model.device)
        self._model(input_ids=token, position_ids=token, use_cache=False)
        if len(_Now.seen) != 1:
            raise Unsupported(f"its layers keep {len(_Now.seen)} kinds of keys")
        return _Now.seen.pop()

    def _speed_up(self) -> None:
        """Replace modules by faster ones with the same results."""
        for parent in list(self._model.modules()):
            children = dict(parent.named_children())
            for names in _TOGETHER:
                if all(type(children.get(name)) is nn.Linear for name in names):
                    parts = Part.all(Linear([children.pop(name) for name in names]))
                    for name, part in zip(names, parts, strict=True):
                        setattr(parent, name, part)
            for name, child in children.items():
                faster = _faster(child)
                if faster is not None:
                    setattr(parent, name, faster)

    def __call__(self, cache: SlotCache, packed: Packed) -> torch.Tensor:
        _Now.cache, _Now.step = cache, packed.step
        out = self._model(
            input_ids=packed.ids[None],
            position_ids=packed.positions[None],
            use_cache=False,
            logits_to_keep=0 if packed.last is None else packed.last,
        )
        logits: torch.Tensor = out.logits[0]
        return logits


class _Norm(nn.Module):
    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self._weight, self._epsilon, self._size = weight.detach(), epsilon, tuple(weight.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self._size, self._weight, self._epsilon)


def _faster(module: nn.Module) -> nn.Module | None:
    if type(module) is nn.Linear:
        return Linear([module])
    weight: Any = getattr(module, "weight", None)
    epsilon: Any = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or weight is None or epsilon is None:
        return None
    norm = _Norm(weight, epsilon)
    x = torch.linspace(-2, 2, 3 * len(weight), device=weight.device).view(3, -1).to(weight.dtype)
    try:
        same = torch.allclose(norm(x).float(), module(x).float(), atol=_CLOSE, rtol=_CLOSE)
    except Exception:  # It has other arguments.
        return None
    return norm if same else None
