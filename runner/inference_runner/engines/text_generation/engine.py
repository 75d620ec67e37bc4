"""Causal language models of transformers; requests join and leave between steps."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference_runner.engines import pretrained
from inference_runner.engines.base import Delta, EngineOptions, Request, StepEngine
from inference_runner.engines.text_generation import continuous, sampling, schedule
from inference_runner.engines.text_generation.decoders import Work
from inference_runner.engines.text_generation.requests import RequestReader
from inference_runner.engines.text_generation.row import Row

log = logging.getLogger(__name__)

MOST_PROMPT_TOKENS = {"cpu": 512, "cuda": 8192}
"""Prompt tokens of a step while no text waits for its next token. On two cores a small model needs
0.2 s for 512."""
LEAST_PROMPT_TOKENS = {"cpu": schedule.SMALLEST_CHUNK, "cuda": 128}


def create(options: EngineOptions) -> TextGeneration:
    return TextGeneration(options)


class TextGeneration(StepEngine):
    """A step is one forward: the next token of each text, and chunks of waiting prompts."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._waiting: list[Row] = []
        """Texts without a slot in the cache yet; the oldest first."""
        self._arrived = 0
        self.pace = schedule.Pace(
            MOST_PROMPT_TOKENS[options.device], LEAST_PROMPT_TOKENS[options.device]
        )

    def load(self) -> None:
        path = pretrained.folder(self._options)
        if self._options.device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        model = self._load_model()
        self._requests = RequestReader(model, self._tokenizer)
        models = [model]
        del model
        self.decoder = continuous.decoder(models, self._load_model, self._options)
        self._requests.context = self.decoder.longest
        self.slots = self.decoder.slots
        self.predict({"prompt": "Hello", "max_new_tokens": 2})

    def _load_model(self) -> Any:
        return pretrained.load(AutoModelForCausalLM, self._options)

    def unload(self) -> None:
        del self.decoder

    def add(self, request: Request) -> None:
        for text in self._requests.read(request):
            self._arrived += 1
            self._waiting.append(Row(text, self._arrived))

    def remove(self, id: str) -> None:
        self._waiting = [row for row in self._waiting if row.text.id != id]
        for row in self.decoder.rows():
            if row.text.id == id:
                self.decoder.leave(row)

    @torch.inference_mode()
    def step(self) -> Sequence[Delta]:
        begun = time.monotonic()
        while self._waiting and self.decoder.admit(self._waiting[0]):
            self._waiting.pop(0)
        work = self._next_work()
        if not work.rows:
            return []
        deltas = self._do(work)
        seconds = time.monotonic() - begun
        self.pace.took(seconds, work.prompt_tokens, is_generating=bool(work.writing))
        return deltas

    def _next_work(self) -> Work:
        writing = self.decoder.writing()
        prompts = [row for row in self.decoder.rows() if not row.is_writing]
        if not self.decoder.in_chunks:
            return Work(writing, [(row, row.missing) for row in prompts])
        prompts.sort(key=lambda row: row.arrived)
        budget = self.pace.budget(is_generating=bool(writing))
        if writing:
            budget = self.decoder.chunk(budget)
        return Work(writing, schedule.chunks(prompts, budget))

    def _do(self, work: Work) -> list[Delta]:
        """One forward, or two of half the size if it fails: the cause may be one of the rows, or
        their number. The rows keep their valid entries in the cache."""
        try:
            logits = self.decoder.run(work)
        except Exception as error:
            halves = work.halves(error)
            if halves:
                log.warning("a step of %s rows failed: by halves", len(work.rows), exc_info=error)
                return [delta for half in halves for delta in self._do(half)]
            (row,) = work.rows
            return [self._said(row, error)]
        for row, count in [*((row, 1) for row in work.writing), *work.chunks]:
            row.length += count
        rows = work.rows
        complete = [at for at, row in enumerate(rows) if row.missing <= 0]
        if not complete:
            return []
        if len(complete) < len(rows):
            logits = logits[torch.tensor(complete, device=logits.device)]
        rows = [rows[at] for at in complete]
        chosen = sampling.choose(logits, [row.text.sampler for row in rows])
        return [self._said(row, token) for row, token in zip(rows, chosen, strict=True)]

    def _said(self, row: Row, token: int | Exception) -> Delta:
        if isinstance(token, int):
            row.said.append(token)
        delta = row.text.said(token)
        if row.text.done:
            self.decoder.leave(row, sound=delta.error is None)
        if delta.error is not None:
            self.remove(row.text.id)  # The other texts of its request.
        return delta
