"""One text that is being generated: its prompt, how its tokens are chosen, what is said of them."""

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
    """What tokens mean.

    Args:
        decode: tokens → text.
        ends: after which a text is complete.
        hidden: which are no text, and how a stop string has them.
    """

    decode: Callable[[Sequence[int]], str]
    ends: frozenset[int]
    hidden: Mapping[int, str]


class Generation:
    """
    Args:
        prompt: not empty.
        message: what the output is, if it is more than a text.
    """

    def __init__(
        self,
        id: str,
        prompt: list[int],
        options: TextOptions,
        vocabulary: Vocabulary,
        grammar: Grammar | None = None,
        message: Message | None = None,
    ) -> None:
        self.id, self.prompt = id, prompt
        self.sampler = Sampler(options, prompt, vocabulary.ends, grammar)
        self.done = False
        self.cached: int | None = None
        """Tokens of the prompt that the engine need not read, if it says so."""
        self._options, self._vocabulary = options, vocabulary
        self._text = Detokenizer(vocabulary.decode, options.stop, vocabulary.hidden, prompt)
        self._message = message
        self._logprobs: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    def said(self, token: int | Exception) -> Delta:
        """What the sampler has chosen, in the words of the engine's caller."""
        if isinstance(token, Exception):
            self.done = True
            return Delta(self.id, done=True, error=token)
        is_end = token in self._vocabulary.ends
        text = self._text.add(token) if not is_end or token in self._vocabulary.hidden else ""
        ended = (is_end and not self._options.ignore_eos) or self.sampler.is_complete
        full = self.sampler.tokens >= self._options.max_new_tokens
        self.done = ended or self._text.stopped or full
        if self._message is not None:
            return self._of_message(self._message, token, text, ended=ended)
        if not self.done:
            return Delta(self.id, text or None)
        text += self._text.finish()
        # A stop string may have come whole with what was held back only.
        reason = "stop" if ended or self._text.stopped else "length"
        return Delta(self.id, text or None, done=True, metrics=self._metrics(reason))

    def _of_message(self, message: Message, token: int, text: str, *, ended: bool) -> Delta:
        text += self._text.finish() if self.done else ""
        fresh: dict[str, Any] = {"index": 0, "delta": message.add(text, final=self.done)}
        if self.sampler.logprobs is not None and not ended:
            self._logprobs.append(self._of_token(token, self.sampler.logprobs))
            fresh["logprobs"] = {"content": self._logprobs[-1:]}
        is_news = fresh["delta"] or "logprobs" in fresh
        output = {"choices": [fresh]} if is_news else None
        if not self.done:
            return Delta(self.id, output)
        reason = "stop" if ended or self._text.stopped else "length"
        if reason == "stop" and message.has_tool_calls:
            reason = "tool_calls"
        choice = {"index": 0, "message": message.all(), "finish_reason": reason}
        if self._options.logprobs is not None:
            choice["logprobs"] = {"content": self._logprobs}
        whole = {"choices": [choice]}
        return Delta(self.id, output, done=True, metrics=self._metrics(reason), whole=whole)

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

    def _metrics(self, finish_reason: str) -> dict[str, Any]:
        seconds = max(time.monotonic() - self._begun, 1e-9)
        cached = {} if self.cached is None else {"cached_token_count": self.cached}
        return {
            "finish_reason": finish_reason,
            "input_token_count": len(self.prompt),
            **cached,
            "output_token_count": self.sampler.tokens,
            "tokens_per_second": round(self.sampler.tokens / seconds, 2),
        }
