"""Texts in the format of `response_format`: which tokens are allowed next.

Uses llguidance, which evaluates a grammar token by token, without compiling it beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch

from inference_runner.engines.base import InputError

_WHITESPACE = r"[\x20\x0A\x0D\x09]{0,32}"
"""White space between the parts of JSON; bounded, since a model could indent for ever."""
_LONGEST_MESSAGE = 300
MOST_BYTES = 200_000
"""Of a `response_format` as JSON. It is read on the engine's thread: a regular expression of a
megabyte delays the other texts by two seconds."""
MOST_CHOICES = 1_000
"""llguidance fails beyond 2,000, and needs 20 s to find that out of 100,000."""


class Grammar:
    """The state of one text in its grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def copy(self) -> Grammar:
        """The same state, for another text."""
        return Grammar(self._matcher.deep_copy())

    @property
    def is_complete(self) -> bool:
        """Whether only an end token is allowed."""
        return bool(self._matcher.is_stopped())

    def fill(self, mask: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        """Set a bit, the lowest first, for each token that is allowed next. Raises RuntimeError."""
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self._check()

    def accept(self, token: int) -> None:
        """Raises RuntimeError if the token is not allowed."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeError(f"response_format: {_brief(self._matcher.get_error())}")


class Grammars:
    """Creates grammars over one model's tokens.

    Args:
        tokenizer: of transformers.
        size: number of tokens for which the model has scores.
        ends: tokens that end a text.
    """

    def __init__(self, tokenizer: Any, size: int, ends: frozenset[int]) -> None:
        self._tokenizer, self._size, self._ends = tokenizer, size, sorted(ends)
        self._tokens: Any = None
        """The vocabulary for llguidance; created when it is first needed, since it takes long."""

    def make(self, inputs: Mapping[str, Any]) -> Grammar | None:
        """The grammar of `response_format`; None if any text is allowed. Raises InputError."""
        grammar = read(inputs.get("response_format"))
        if grammar is None:
            return None
        if not self._ends:
            raise InputError("response_format: this model has no token that ends a text")
        if self._tokens is None:
            self._tokens = self._read_tokens()
        matcher = llguidance.LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise InputError(f"response_format: {_brief(matcher.get_error())}")
        return Grammar(matcher)

    def _read_tokens(self) -> Any:
        try:
            return llguidance.hf.from_tokenizer(
                self._tokenizer,
                n_vocab=max(self._size, len(self._tokenizer)),
                eos_token=self._ends,
            )
        except Exception as error:
            message = f"not with this model's tokenizer: {_brief(str(error))}"
            raise InputError(f"response_format: {message}") from error


def read(response_format: Any) -> str | None:
    """A grammar of llguidance; None: any text. Raises InputError."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if not isinstance(kind, str) or kind not in _GRAMMARS:
        raise InputError(
            f"response_format must be an object whose type is one of: {', '.join(_GRAMMARS)}"
        )
    size = len(json.dumps(response_format, ensure_ascii=False).encode(errors="replace"))
    if size > MOST_BYTES:
        raise InputError(f"response_format must have at most {MOST_BYTES} bytes, not {size}")
    return _GRAMMARS[kind](response_format.get(kind))


def _schema(said: Any) -> str:
    if not isinstance(said, dict) or not isinstance(said.get("schema"), dict):
        raise InputError("response_format.json_schema must be an object with a schema")
    return _json(said["schema"])


def _regex(said: Any) -> str:
    if not isinstance(said, str):
        raise InputError("response_format.regex must be a string")
    return str(llguidance.grammar_from("regex", said))


def _choice(said: Any) -> str:
    if not isinstance(said, list) or not said or not all(isinstance(one, str) for one in said):
        raise InputError("response_format.choice must be a list of strings, at least one")
    if len(said) > MOST_CHOICES:
        raise InputError(
            f"response_format.choice must have at most {MOST_CHOICES} strings, not {len(said)}"
        )
    return str(llguidance.grammar_from("choice", json.dumps(said)))


def constrain(scores: torch.Tensor, grammars: Mapping[int, Grammar]) -> dict[int, Exception]:
    """Forbid all tokens but the allowed ones in these rows of [rows, vocabulary], in place. Returns
    the errors of rows."""
    errors: dict[int, Exception] = {}
    size = scores.shape[-1]
    masks = np.zeros((len(grammars), -(-size // 32)), dtype=np.int32)
    for mask, (at, grammar) in zip(masks, grammars.items(), strict=True):
        try:
            grammar.fill(mask)
        except Exception as error:
            errors[at] = error
    if grammars:
        bits = np.unpackbits(masks.view(np.uint8), axis=-1, bitorder="little")[:, :size]
        refused = torch.from_numpy(bits == 0).to(scores.device)
        for at, some in zip(grammars, refused, strict=True):
            scores[at].masked_fill_(some, float("-inf"))
    return errors


def _json(schema: dict[str, Any]) -> str:
    try:
        return str(
            llguidance.LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_pattern": _WHITESPACE}
            )
        )
    except ValueError as error:
        raise InputError(f"response_format: {_brief(str(error))}") from error


_GRAMMARS: dict[str, Callable[[Any], str | None]] = {
    "text": lambda _: None,
    "json_object": lambda _: _json({"type": "object"}),
    "json_schema": _schema,
    "regex": _regex,
    "choice": _choice,
}
"""The types of `response_format`; each reads the field of its own name."""


def _brief(message: str) -> str:
    """On one line, without the state of the parser."""
    return " ".join(message.partition("<state>")[0].split())[:_LONGEST_MESSAGE]
