"""Causal language models of transformers, token by token; requests join and leave between steps."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from inference_runner.engines import kv_cache, pretrained, sampling, text_options
from inference_runner.engines.base import Delta, EngineOptions, InputError, Request, StepEngine
from inference_runner.engines.detokenizer import Detokenizer
from inference_runner.engines.text_options import TextOptions


def create(options: EngineOptions) -> TextGeneration:
    return TextGeneration(options)


@dataclass(slots=True, eq=False)
class _Row:
    """One request. `length` counts its tokens in the cache."""

    id: str
    prompt: list[int]
    options: TextOptions
    text: Detokenizer
    generator: torch.Generator
    begun: float = field(default_factory=time.monotonic)
    length: int = 0
    last: int = 0
    tokens: int = 0

    def metrics(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self.begun, 1e-9)
        return {
            "input_token_count": len(self.prompt),
            "output_token_count": self.tokens,
            "tokens_per_second": round(self.tokens / seconds, 2),
        }


class TextGeneration(StepEngine):
    """A step is either one forward over the newcomers' prompts, or one token for everybody."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._waiting: list[_Row] = []
        self._rows: list[_Row] = []
        self._cache: Any = None

    def load(self) -> None:
        path = pretrained.folder(self._options)
        if self._options.device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._model = pretrained.load(AutoModelForCausalLM, self._options)
        config = self._model.config.get_text_config()
        self._context = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        takes = inspect.signature(self._model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._positions = "position_ids" in takes
        regroups = self._positions and kv_cache.can_regroup(self._new_cache())
        self.slots = self._options.max_batch_size if regroups else 1
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._tokenizer.eos_token_id
        self._ends = frozenset([ends] if isinstance(ends, int) else ends or [])
        self.predict({"prompt": "Hello", "max_new_tokens": 2})  # the first forward sets things up

    def unload(self) -> None:
        del self._model

    def add(self, request: Request) -> None:
        prompt = self._encode(request.inputs)
        options = text_options.read(request.id, request.inputs, len(prompt), self._context)
        generator = torch.Generator().manual_seed(options.seed)
        text = Detokenizer(self._decode, options.stop)
        self._waiting.append(_Row(request.id, prompt, options, text, generator))

    def remove(self, id: str) -> None:
        self._waiting = [row for row in self._waiting if row.id != id]
        self._keep([row for row in self._rows if row.id != id])

    @torch.inference_mode()
    def step(self) -> Sequence[Delta]:
        if self._waiting:
            new, self._waiting = self._waiting, []
            try:
                cache, tokens = self._prefill(new)
            except Exception as error:
                return [Delta(row.id, done=True, error=error) for row in new]
            self._join(new, cache)
            stepped = list(zip(new, tokens, strict=True))
        else:
            stepped = self._decode_step()
        deltas, left = [], set()
        for row, token in stepped:
            delta = self._advance(row, token)
            deltas.append(delta)
            if delta.done:
                left.add(row)
        if left:
            self._keep([row for row in self._rows if row not in left])
        return deltas

    def _encode(self, inputs: dict[str, Any]) -> list[int]:
        prompt = inputs.get("prompt")
        if not isinstance(prompt, str):
            raise InputError("prompt must be a string")
        if self._tokenizer.chat_template:
            prompt = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            ids = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenizer(prompt)["input_ids"]
        if not ids:
            raise InputError("prompt is empty")
        return list(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    def _new_cache(self) -> Any:
        return DynamicCache(config=self._model.config)

    def _prefill(self, new: list[_Row]) -> tuple[Any, list[int]]:
        """One forward over all these prompts: their cache, and the first token of each."""
        longest = max(len(row.prompt) for row in new)
        ids = [[0] * (longest - len(row.prompt)) + row.prompt for row in new]
        positions = [[0] * (longest - len(r.prompt)) + list(range(len(r.prompt))) for r in new]
        for row in new:
            row.length = len(row.prompt)
        cache = self._new_cache()
        return cache, self._choose(new, self._forward(new, ids, positions, cache))

    def _join(self, new: list[_Row], cache: Any) -> None:
        if self._rows:
            kv_cache.join(self._cache, cache)
        else:
            self._cache = cache
        self._rows = self._rows + new

    def _decode_step(self) -> list[tuple[_Row, int]]:
        rows = self._rows
        ids, positions = [[row.last] for row in rows], [[row.length] for row in rows]
        for row in rows:
            row.length += 1
        logits = self._forward(rows, ids, positions, self._cache)
        return list(zip(rows, self._choose(rows, logits), strict=True))

    def _forward(
        self, rows: list[_Row], ids: list[list[int]], positions: list[list[int]], cache: Any
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] of the last position. `row.length` counts the new tokens."""
        device = self._model.device
        total = cache.get_seq_length() + len(ids[0])
        padding = [total - row.length for row in rows]
        mask = None
        if any(padding):
            first = torch.tensor(padding, device=device)
            mask = (torch.arange(total, device=device) >= first[:, None]).long()
        extra: dict[str, Any] = dict(self._last_only)
        if self._positions:
            extra["position_ids"] = torch.tensor(positions, device=device)
        out = self._model(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    @staticmethod
    def _choose(rows: list[_Row], logits: torch.Tensor) -> list[int]:
        tokens = sampling.greedy(logits).tolist()
        for at, row in enumerate(rows):
            if row.options.temperature > 0:
                tokens[at] = sampling.sample(logits[at], row.options, row.generator)
        return tokens

    def _advance(self, row: _Row, token: int) -> Delta:
        row.last = token
        row.tokens += 1
        ended = token in self._ends
        text = "" if ended else row.text.add(token)
        done = ended or row.text.stopped or row.tokens >= row.options.max_new_tokens
        if done:
            text += row.text.finish()
        return Delta(row.id, text or None, done, metrics=row.metrics() if done else {})

    def _keep(self, rows: list[_Row]) -> None:
        """Go on with these rows only."""
        if len(rows) == len(self._rows):
            return
        if rows:
            index = {row: at for at, row in enumerate(self._rows)}
            kv_cache.keep(self._cache, [index[row] for row in rows], max(r.length for r in rows))
        else:
            self._cache = None
        self._rows = rows
