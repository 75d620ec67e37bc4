"""What a caller may ask of text generation, read from an input. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_runner.engines.base import InputError

DEFAULT_NEW_TOKENS = 128


@dataclass(frozen=True)
class TextOptions:
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: tuple[str, ...]


def read(
    request_id: str, inputs: Mapping[str, Any], prompt_tokens: int, context: int
) -> TextOptions:
    """
    Args:
        context: most tokens that the model can hold, the prompt included.

    Raises:
        InputError: if a value has the wrong type, or the prompt leaves no room.
    """
    limit = context
    if inputs.get("max_length") is not None:
        limit = min(limit, _number(inputs, "max_length", limit, int))
    if prompt_tokens >= limit:
        raise InputError(
            f"the prompt has {prompt_tokens} tokens and leaves no room: "
            f"prompt and output together may have {limit}"
        )
    asked = _number(inputs, "max_new_tokens", 0, int)
    if not asked:
        asked = limit if inputs.get("max_length") is not None else DEFAULT_NEW_TOKENS
    return TextOptions(
        max_new_tokens=max(1, min(asked, limit - prompt_tokens)),
        temperature=_number(inputs, "temperature", 0.0, float),
        top_p=_number(inputs, "top_p", 1.0, float),
        top_k=_number(inputs, "top_k", 0, int),
        seed=_number(inputs, "seed", default_seed(request_id), int),
        stop=_stop(inputs.get("stop")),
    )


def default_seed(request_id: str) -> int:
    """From the id, so that a second attempt says the same."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:6])


def _number(inputs: Mapping[str, Any], name: str, default: Any, kind: type) -> Any:
    value = inputs.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number")
    return kind(value)


def _stop(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError("stop must be a list of strings")
    return tuple(text for text in texts if text)
