"""What a caller may ask of text generation, read from an input. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_runner.engines import inputs as read_inputs
from inference_runner.engines.base import InputError

DEFAULT_NEW_TOKENS = 128
GREEDY_BELOW = 1e-5
"""Of the temperature: where float32 knows no second token beside the likeliest."""


@dataclass(frozen=True)
class TextOptions:
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: tuple[str, ...]

    @property
    def is_greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW


def read(
    request_id: str, inputs: Mapping[str, Any], prompt_tokens: int, context: int
) -> TextOptions:
    """
    Args:
        context: most tokens that the model can hold, the prompt included.

    Raises:
        InputError: if a value has the wrong type or is out of bounds, or the prompt leaves no room.
    """
    limit = min(context, read_inputs.integer(inputs, "max_length", context, 1))
    if prompt_tokens >= limit:
        raise InputError(
            f"the prompt has {prompt_tokens} tokens and leaves no room: "
            f"prompt and output together may have {limit}"
        )
    usual = DEFAULT_NEW_TOKENS if inputs.get("max_length") is None else limit
    asked = read_inputs.integer(inputs, "max_new_tokens", usual, 1)
    return TextOptions(
        max_new_tokens=min(asked, limit - prompt_tokens),
        temperature=read_inputs.number(inputs, "temperature", 0.0, 0),
        top_p=read_inputs.number(inputs, "top_p", 1.0, 0, 1),
        top_k=read_inputs.integer(inputs, "top_k", 0, 0),
        seed=read_inputs.seed(inputs, default_seed(request_id)),
        stop=_stop(inputs.get("stop")),
    )


def default_seed(request_id: str) -> int:
    """From the id, so that a second attempt says the same."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:6])


def _stop(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError("stop must be a list of strings")
    return tuple(text for text in texts if text)
