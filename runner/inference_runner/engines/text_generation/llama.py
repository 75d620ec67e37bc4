"""A forward for Llama and similar models, with half the operators of the one in transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from inference_runner.engines.text_generation.attention import Step, attend
from inference_runner.engines.text_generation.linears import Linear
from inference_runner.engines.text_generation.packing import Packed
from inference_runner.engines.text_generation.slot_cache import CacheShape, SlotCache

KINDS = frozenset({"llama", "qwen2", "qwen3", "mistral"})
"""Model types with these layers: RMS norms, rotary positions, grouped heads, a gated MLP."""


@dataclass
class _Layer:
    before_attention: torch.Tensor
    qkv: Linear
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    out: Linear
    before_mlp: torch.Tensor
    gate_up: Linear
    down: Linear


def is_llama(model: Any) -> bool:
    config = model.config
    return (
        config.model_type in KINDS
        and config.hidden_act in {"silu", "swish"}
        and type(model).__name__.endswith("ForCausalLM")
        and (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
        == 1.0
    )


class LlamaForward:
    """Takes the weights out of the model, which cannot be used any more.

    Args:
        longest: positions of a sequence.
    """

    def __init__(self, model: Any, longest: int) -> None:
        config, inner = model.config, model.model
        first = inner.layers[0].self_attn
        self._heads, self._key_heads = config.num_attention_heads, config.num_key_value_heads
        self._dim, self._epsilon = first.head_dim, config.rms_norm_eps
        self._size, self._scale = (config.hidden_size,), first.scaling
        self._embedding = inner.embed_tokens.weight.detach()
        self.vocabulary = len(self._embedding)
        self._norm = inner.norm.weight.detach()
        self.shape = CacheShape(
            config.num_hidden_layers, self._key_heads, self._dim, self._embedding.dtype
        )
        self._cos, self._sin = self._rotations(inner.rotary_emb, longest)
        self._layers = [self._layer(layer) for layer in inner.layers]
        self._head = Linear([model.lm_head])

    def _rotations(self, rotary: Any, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[positions, 1, dim] each; the first half of the sine is negated, as `roll`, unlike
        `rotate_half`, does not negate."""
        positions = torch.arange(longest, device=self._embedding.device)
        cos, sin = rotary(self._embedding, positions[None])
        sin = sin[0].clone()
        sin[:, : self._dim // 2] *= -1
        return cos[0][:, None].contiguous(), sin[:, None].contiguous()

    def _layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query_norm, key_norm = (getattr(attention, f"{one}_norm", None) for one in "qk")
        return _Layer(
            layer.input_layernorm.weight.detach(),
            Linear([attention.q_proj, attention.k_proj, attention.v_proj]),
            None if query_norm is None else query_norm.weight.detach(),
            None if key_norm is None else key_norm.weight.detach(),
            Linear([attention.o_proj]),
            layer.post_attention_layernorm.weight.detach(),
            Linear([mlp.gate_proj, mlp.up_proj]),
            Linear([mlp.down_proj]),
        )

    def __call__(self, cache: SlotCache, packed: Packed) -> torch.Tensor:
        x = F.embedding(packed.ids, self._embedding)
        cos, sin = self._cos[packed.positions], self._sin[packed.positions]
        for number, layer in enumerate(self._layers):
            attended = self._attend(cache, number, packed.step, layer, x, cos, sin)
            x = x + layer.out(attended)
            normed = F.rms_norm(x, self._size, layer.before_mlp, self._epsilon)
            gate, up = layer.gate_up(normed).split(layer.gate_up.sizes, -1)
            x = x + layer.down(F.silu(gate).mul_(up))
        if packed.last is not None:
            x = x[packed.last]
        logits: torch.Tensor = self._head(F.rms_norm(x, self._size, self._norm, self._epsilon))
        return logits

    def _attend(
        self,
        cache: SlotCache,
        number: int,
        step: Step,
        layer: _Layer,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> torch.Tensor:
        tokens, heads, turned = len(x), self._heads, self._heads + self._key_heads
        normed = F.rms_norm(x, self._size, layer.before_attention, self._epsilon)
        states = layer.qkv(normed).view(tokens, turned + self._key_heads, self._dim)
        both = states[:, :turned]
        if layer.query_norm is not None and layer.key_norm is not None:
            dim = (self._dim,)
            query = F.rms_norm(both[:, :heads], dim, layer.query_norm, self._epsilon)
            keys = F.rms_norm(both[:, heads:], dim, layer.key_norm, self._epsilon)
            both = torch.cat((query, keys), 1)
        both = (both * cos).addcmul_(both.roll(self._dim // 2, -1), sin)
        found = attend(
            cache, number, step, both[:, :heads], both[:, heads:], states[:, turned:], self._scale
        )
        return found.reshape(tokens, heads * self._dim)
