"""Causal language models of transformers, token by token; requests join and leave between steps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference_runner.engines import pretrained
from inference_runner.engines.base import Delta, EngineOptions, Request, StepEngine
from inference_runner.engines.text_generation import prefill, sampling
from inference_runner.engines.text_generation.batches import Batch, Batches
from inference_runner.engines.text_generation.causal import Causal
from inference_runner.engines.text_generation.generation import Generation
from inference_runner.engines.text_generation.requests import RequestReader

PREFILL_TOKENS = {"cpu": 512, "cuda": 4096}
"""Of one forward over prompts. On two cores 512 tokens take a small model 0.2 s, and cost no more
each than 4096 at once do."""


def create(options: EngineOptions) -> TextGeneration:
    return TextGeneration(options)


@dataclass(slots=True, eq=False)
class _Row:
    """One text. `length` counts its tokens in the cache."""

    text: Generation
    length: int = 0
    cache: Any = None
    """Of a prompt that is there in part."""
    last: int = 0

    @property
    def missing(self) -> int:
        return len(self.text.prompt) - self.length


class TextGeneration(StepEngine):
    """A step is one forward over some of the prompts that wait, or one token for everybody."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._waiting: list[_Row] = []
        self._turns = prefill.PrefillTurns()

    def load(self) -> None:
        path = pretrained.folder(self._options)
        if self._options.device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._model = pretrained.load(AutoModelForCausalLM, self._options)
        self._causal = Causal(self._model)
        self.slots = self._options.max_batch_size if self._causal.regroups else 1
        self._budget = PREFILL_TOKENS[self._options.device]
        self._requests = RequestReader(self._model, self._tokenizer)
        self._batches: Batches[_Row] = Batches(self._causal.worth())
        self.predict({"prompt": "Hello", "max_new_tokens": 2})

    def unload(self) -> None:
        del self._model, self._causal

    def add(self, request: Request) -> None:
        self._waiting += [_Row(text) for text in self._requests.read(request)]

    def remove(self, id: str) -> None:
        self._waiting = [row for row in self._waiting if row.text.id != id]
        self._batches.keep(lambda row: row.text.id != id)

    @torch.inference_mode()
    def step(self) -> Sequence[Delta]:
        begun = time.monotonic()
        if self._waiting and (self._turns.is_prompts or not self._batches):
            somebody_waited = bool(self._batches)
            rows = prefill.group(self._waiting, self._budget, oldest=self._turns.oldest())
            deltas = self._prefill(rows)
            seconds = time.monotonic() - begun
            self._turns.had_prompts(seconds, somebody_waited=somebody_waited)
        else:
            deltas = [delta for batch in self._batches for delta in self._next_tokens(batch)]
            self._turns.had_tokens(time.monotonic() - begun)
        if any(delta.done for delta in deltas):
            self._batches.keep(lambda row: not row.text.done)
        return deltas

    def _prefill(self, rows: list[_Row]) -> list[Delta]:
        """One forward over these prompts, or a chunk of one: the first token of each that is
        complete."""
        lengths = [row.length for row in rows]
        try:
            cache, logits = self._read(rows)
        except Exception as error:
            if len(rows) > 1:  # It may be the matter of one of them.
                for row, length in zip(rows, lengths, strict=True):
                    row.length = length
                return [delta for row in rows for delta in self._prefill([row])]
            self._waiting.remove(rows[0])
            return [rows[0].text.said(error)]
        if rows[0].missing:
            rows[0].cache = cache
            return []
        self._waiting = [row for row in self._waiting if row not in rows]
        deltas = self._advance(rows, logits)
        for row in rows:
            row.cache = None
        self._batches.add(rows, cache)
        return deltas

    def _read(self, rows: list[_Row]) -> tuple[Any, torch.Tensor]:
        most = self._budget if self._causal.regroups else max(row.missing for row in rows)
        chunks = [row.text.prompt[row.length : row.length + most] for row in rows]
        longest = max(map(len, chunks))
        ids, positions = [], []
        for row, chunk in zip(rows, chunks, strict=True):
            padding = [0] * (longest - len(chunk))
            ids.append(padding + chunk)
            positions.append(padding + list(range(row.length, row.length + len(chunk))))
            row.length += len(chunk)
        cache = rows[0].cache
        if cache is None:
            cache = self._causal.new_cache()
        return cache, self._causal.forward([row.length for row in rows], ids, positions, cache)

    def _next_tokens(self, batch: Batch[_Row]) -> list[Delta]:
        rows = batch.rows
        ids, positions = [[row.last] for row in rows], [[row.length] for row in rows]
        for row in rows:
            row.length += 1
        try:
            logits = self._causal.forward([r.length for r in rows], ids, positions, batch.cache)
        except Exception as error:  # Its cache may be half written.
            return [row.text.said(error) for row in rows]
        return self._advance(rows, logits)

    def _advance(self, rows: list[_Row], logits: torch.Tensor) -> list[Delta]:
        chosen = sampling.choose(logits, [row.text.sampler for row in rows])
        for row, token in zip(rows, chosen, strict=True):
            if isinstance(token, int):
                row.last = token
        return [row.text.said(token) for row, token in zip(rows, chosen, strict=True)]
