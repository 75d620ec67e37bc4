"""Matrix products with weights that never change.

oneDNN multiplies several times faster with weights in its own layout. torch has that as a private
operator only: if it is missing, or its results differ, F.linear is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

_TYPICAL_ROWS = 32
_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest difference of a packed product from F.linear, relative to the largest value."""


class Linear(nn.Module):
    """One product for several linear modules with the same input, which lose their weights."""

    def __init__(self, modules: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.sizes = [module.out_features for module in modules]
        self.in_features, self.out_features = modules[0].in_features, sum(self.sizes)
        with torch.no_grad():
            self._weight = _joined([module.weight.detach() for module in modules])
            biases = [module.bias for module in modules]
            self._bias: torch.Tensor | None = None
            if any(bias is not None for bias in biases):
                self._bias = torch.cat(
                    [
                        self._weight.new_zeros(size) if bias is None else bias.detach()
                        for bias, size in zip(biases, self.sizes, strict=True)
                    ]
                )
            packed = _pack(self._weight, self._bias)
        self._packed = packed is not None
        if packed is not None:
            self._weight = packed
        for module in modules:
            module.weight = module.bias = None  # type: ignore[assignment]  # nobody calls it again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed:
            return _multiply(x, self._weight, self._bias)
        return F.linear(x, self._weight, self._bias)


class Part(nn.Module):
    """Replaces one of several modules: the first that is called multiplies for all."""

    def __init__(self, product: Linear, at: int) -> None:
        super().__init__()
        self._shared = _Shared(product) if at == 0 else None
        self._at = at

    @classmethod
    def all(cls, product: Linear) -> list[Part]:
        parts = [cls(product, at) for at in range(len(product.sizes))]
        for part in parts[1:]:
            part._shared = parts[0]._shared
        return parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self._shared is not None
        return self._shared.part(x, self._at)


class _Shared:
    def __init__(self, product: Linear) -> None:
        self._product = product
        self._of: torch.Tensor | None = None
        self._parts: Sequence[torch.Tensor] = ()

    def part(self, x: torch.Tensor, at: int) -> torch.Tensor:
        if self._of is not x:
            self._of, self._parts = x, self._product(x).split(self._product.sizes, -1)
        found = self._parts[at]
        if at == len(self._product.sizes) - 1:
            self._of, self._parts = None, ()
        return found


def _joined(weights: list[torch.Tensor]) -> torch.Tensor:
    return weights[0] if len(weights) == 1 else torch.cat(weights)


def _multiply(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    operators: Any = torch.ops.mkldnn
    found: torch.Tensor = operators._linear_pointwise(x, packed, bias, "none", [], "")
    return found


def _pack(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor | None:
    """The packed weight; None if packing does not pay for it, or does not work."""
    if weight.device.type != "cpu" or weight.dtype not in _CLOSE:
        return None
    operators: Any = torch.ops.mkldnn
    try:
        if weight.dtype == torch.bfloat16 and not operators._is_mkldnn_bf16_supported():
            return None
        packed: torch.Tensor = operators._reorder_linear_weight(weight.contiguous(), _TYPICAL_ROWS)
        x = torch.linspace(-1, 1, 3 * weight.shape[1], dtype=torch.float32)
        x = x.view(3, -1).sin().to(weight.dtype)
        expected, found = F.linear(x, weight, bias), _multiply(x, packed, bias)
    except (RuntimeError, AttributeError, NotImplementedError):
        return None
    error = (found.float() - expected.float()).abs().max()
    return packed if error <= _CLOSE[weight.dtype] * expected.float().abs().max() else None
