"""One text in generation: its prompt, its sampler, and the deltas of its output."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_runner.engines.base import Delta
from inference_runner.engines.text_generation.detokenizer import Detokenizer
from inference_runner.engines.text_generation.message import Message
from inference_runner.engines.text_generation.options import TextOptions
from inference_runner.engines.text_generation.sampling import Logprobs, Sampler
from inference_runner.engines.text_generation.structured_output import Grammar


@dataclass(frozen=True)
class Vocabulary:
    """Facts about a model's tokens.

    Args:
        decode: tokens → text.
        ends: tokens that end a text.
        hidden: tokens that are not part of the text, and their text in stop strings.
    """

    decode: Callable[[Sequence[int]], str]
    ends: frozenset[int]
    hidden: Mapping[int, str]


class Choices:
    """The texts of one request whose output is an object: it is done when all of them are."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ended: dict[int, dict[str, Any]] = {}
        self._tokens = 0

    def end(self, choice: dict[str, Any], tokens: int) -> tuple[dict[str, Any], int] | None:
        """The output, and its number of tokens, if this was the last open choice."""
        self._ended[choice["index"]] = choice
        self._tokens += tokens
        if len(self._ended) < self._count:
            return None
        return {"choices": [self._ended[at] for at in range(self._count)]}, self._tokens


class Generation:
    """
    Args:
        prompt: not empty.
        message: collects the output if it is an object; None for a string.
        index: its position among the choices of its request.
    """

    def __init__(
        self,
        id: str,
        prompt: list[int],
        options: TextOptions,
        vocabulary: Vocabulary,
        grammar: Grammar | None = None,
        message: Message | None = None,
        index: int = 0,
        choices: Choices | None = None,
    ) -> None:
        self.id, self.prompt = id, prompt
        self.sampler = Sampler(options, prompt, vocabulary.ends, grammar)
        self.done = False
        self.cached: int | None = None
        """Tokens of the prompt that were in the cache already, set by the engine."""
        self._options, self._vocabulary = options, vocabulary
        self._text = Detokenizer(vocabulary.decode, options.stop, vocabulary.hidden, prompt)
        self._message = message
        self._index, self._choices = index, choices or Choices(1)
        self._logprobs: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    def said(self, token: int | Exception) -> Delta:
        """The delta for the token that the sampler has chosen, or for its error."""
        if isinstance(token, Exception):
            self.done = True
            return Delta(self.id, done=True, error=token)
        is_end = token in self._vocabulary.ends
        text = self._text.add(token) if not is_end or token in self._vocabulary.hidden else ""
        ended = (is_end and not self._options.ignore_eos) or self.sampler.is_complete
        full = self.sampler.tokens >= self._options.max_new_tokens
        self.done = ended or self._text.stopped or full
        if self._message is not None:
            return self._of_message(self._message, token, text, at_end=ended)
        if not self.done:
            return Delta(self.id, text or None)
        text += self._text.finish()
        # A stop string may be complete only with the text that was held back.
        reason = "stop" if ended or self._text.stopped else "length"
        return Delta(
            self.id, text or None, done=True, metrics=self._metrics(reason, self.sampler.tokens)
        )

    def _of_message(self, message: Message, token: int, text: str, *, at_end: bool) -> Delta:
        text += self._text.finish() if self.done else ""
        fresh: dict[str, Any] = {"index": self._index, "delta": message.add(text, final=self.done)}
        if self.sampler.logprobs is not None and not at_end:
            self._logprobs.append(self._of_token(token, self.sampler.logprobs))
            fresh["logprobs"] = {"content": self._logprobs[-1:]}
        is_news = fresh["delta"] or "logprobs" in fresh
        output = {"choices": [fresh]} if is_news else None
        if not self.done:
            return Delta(self.id, output)
        reason = "stop" if at_end or self._text.stopped else "length"
        if reason == "stop" and message.has_tool_calls:
            reason = "tool_calls"
        choice = {"index": self._index, "message": message.all(), "finish_reason": reason}
        if self._options.logprobs is not None:
            choice["logprobs"] = {"content": self._logprobs}
        ended = self._choices.end(choice, self.sampler.tokens)
        if ended is None:
            return Delta(self.id, output)
        whole, tokens = ended
        return Delta(self.id, output, done=True, metrics=self._metrics(reason, tokens), whole=whole)

    def _of_token(self, token: int, logprobs: Logprobs) -> dict[str, Any]:
        decode = self._vocabulary.decode
        top = [
            {"token": decode([one]), "id": one, "logprob": chance} for one, chance in logprobs.top
        ]
        return {
            "token": decode([token]),
            "id": token,
            "logprob": logprobs.chosen,
            "top_logprobs": top,
        }

    def _metrics(self, finish_reason: str, tokens: int) -> dict[str, Any]:
        seconds = max(time.monotonic() - self._begun, 1e-9)
        cached = {} if self.cached is None else {"cached_token_count": self.cached}
        return {
            "finish_reason": finish_reason,
            "input_token_count": len(self.prompt),
            **cached,
            "output_token_count": tokens,
            "tokens_per_second": round(tokens / seconds, 2),
        }
