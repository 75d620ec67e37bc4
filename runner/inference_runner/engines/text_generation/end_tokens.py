"""Which tokens end a text, and which are not part of it. The source of this differs by model."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

_ANSWER = "An answer."


def of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The end tokens of generation config, tokenizer and chat template."""
    said = [model.generation_config.eos_token_id, tokenizer.eos_token_id, _end_of_turn(tokenizer)]
    ends: set[int] = set()
    for value in said:
        if value is not None:
            ends.update([value] if isinstance(value, int) else value)
    return frozenset(ends)


def hidden(tokenizer: Any) -> dict[int, str]:
    """The tokens that decoding skips."""
    added = tokenizer.added_tokens_decoder.items()
    found = {number: token.content for number, token in added if token.special}
    names = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    return {**found, **dict(names)}


def _end_of_turn(tokenizer: Any) -> int | None:
    """The added token that the chat template writes directly after an answer, if any."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception as error:
        log.info("the chat template has no end of a turn", extra={"error": str(error)})
        return None
    _, found, after = text.rpartition(_ANSWER)
    added = tokenizer.added_tokens_decoder
    matches = [n for n, token in added.items() if after.lstrip().startswith(token.content)]
    # Of two that match, such as <end> and <end>er, the tokenizer takes the longer.
    return max(matches, key=lambda n: len(added[n].content)) if found and matches else None
