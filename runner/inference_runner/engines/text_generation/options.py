"""Reads the options of text generation from an input. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_runner.engines import inputs as read_inputs
from inference_runner.engines.base import InputError

DEFAULT_NEW_TOKENS = 128
MOST_LOGPROBS = 20
MOST_TEXTS = 16
MOST_STOPS = 32
"""Each is searched for after each token, in the time of all texts: 100,000 take 0.2 s."""
GREEDY_BELOW = 1e-5
"""Smallest temperature: below it float32 gives all other tokens a weight of 0."""


@dataclass(frozen=True)
class TextOptions:
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: tuple[str, ...]
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    min_new_tokens: int = 0
    ignore_eos: bool = False
    n: int = 1
    """Number of texts."""
    logprobs: int | None = None
    """Number of likeliest tokens to report with each chosen token; None: no log probabilities."""

    @property
    def is_greedy(self) -> bool:
        """Whether nothing but the likeliest token is left."""
        return self.temperature < GREEDY_BELOW or self.top_k == 1 or self.top_p == 0

    @property
    def has_penalties(self) -> bool:
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1, 0, 0)


def read(
    request_id: str, inputs: Mapping[str, Any], prompt_tokens: int, context: int
) -> TextOptions:
    """
    Args:
        context: most tokens of a text, the prompt included.

    Raises:
        InputError: if a value has the wrong type or is out of bounds, or the prompt is too long.
    """
    limit = min(context, read_inputs.integer(inputs, "max_length", context, 1))
    if prompt_tokens >= limit:
        raise InputError(
            f"the prompt has {prompt_tokens} tokens and leaves no room: "
            f"prompt and output together may have {limit}"
        )
    usual = DEFAULT_NEW_TOKENS if inputs.get("max_length") is None else limit
    asked = read_inputs.integer(inputs, "max_new_tokens", usual, 1)
    most = min(asked, limit - prompt_tokens)
    least = read_inputs.integer(inputs, "min_new_tokens", 0, 0)
    if least > asked:
        raise InputError(f"min_new_tokens is {least}, more than max_new_tokens, {asked}")
    return TextOptions(
        max_new_tokens=most,
        temperature=read_inputs.number(inputs, "temperature", 0.0, 0),
        top_p=read_inputs.number(inputs, "top_p", 1.0, 0, 1),
        top_k=read_inputs.integer(inputs, "top_k", 0, 0),
        seed=read_inputs.seed(inputs, default_seed(request_id)),
        stop=_stop(inputs.get("stop")),
        min_p=read_inputs.number(inputs, "min_p", 0.0, 0, 1),
        repetition_penalty=read_inputs.number(inputs, "repetition_penalty", 1.0, 0.01, 100),
        frequency_penalty=read_inputs.number(inputs, "frequency_penalty", 0.0, -2, 2),
        presence_penalty=read_inputs.number(inputs, "presence_penalty", 0.0, -2, 2),
        min_new_tokens=min(least, most),
        ignore_eos=read_inputs.boolean(inputs, "ignore_eos", False),
        n=_at_most(MOST_TEXTS, inputs, "n", 1, 1),
        logprobs=_logprobs(inputs),
    )


def default_seed(request_id: str) -> int:
    """Derived from the id, so that a second attempt generates the same text."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:6])


def _logprobs(inputs: Mapping[str, Any]) -> int | None:
    asked = _at_most(MOST_LOGPROBS, inputs, "logprobs", 0, 0)
    return None if inputs.get("logprobs") is None else asked


def _at_most(most: int, inputs: Mapping[str, Any], name: str, default: int, low: int) -> int:
    asked = read_inputs.integer(inputs, name, default, low)
    if asked > most:
        raise InputError(f"{name} must be at most {most}, not {asked}")
    return asked


def _stop(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError("stop must be a list of strings")
    if len(texts) > MOST_STOPS:
        raise InputError(f"stop must have at most {MOST_STOPS} strings, not {len(texts)}")
    return tuple(text for text in texts if text)
