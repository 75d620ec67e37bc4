"""Text classifiers of transformers: a text → its labels, the likeliest first.

Labels and scores are those of transformers' pipeline for this task.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from inference_runner.engines import inputs as read_inputs
from inference_runner.engines import pretrained
from inference_runner.engines.base import BaseInferenceModel, EngineOptions, InputError


def create(options: EngineOptions) -> Classification:
    return Classification(options)


class Classification(BaseInferenceModel):
    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    def load(self) -> None:
        self._model = pretrained.load(AutoModelForSequenceClassification, self._options)
        self._tokenizer = AutoTokenizer.from_pretrained(self._options.path)
        self._longest = min(
            pretrained.positions(self._model), int(self._tokenizer.model_max_length)
        )
        self._pads = self._agree_on_padding()
        self._scores = _function(self._model.config)
        self.predict_batch([{"text": "A text."}, {"text": "longer " * min(self._longest, 2048)}])

    def predict(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        return self.predict_batch([inputs])[0]

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        texts = [read_inputs.text(inputs, "text") for inputs in batch]
        if self._pads:
            return self._classify(texts)
        return [labels for text in texts for labels in self._classify([text])]

    @torch.inference_mode()
    def _classify(self, texts: list[str]) -> list[list[dict[str, Any]]]:
        limit = {} if self._longest >= pretrained.UNBOUNDED else {"max_length": self._longest}
        encoded = self._tokenizer(
            texts, padding=self._pads, truncation=bool(limit), return_tensors="pt", **limit
        )
        if not encoded["input_ids"].numel():
            raise InputError("text is empty")
        logits = self._model(**encoded.to(self._model.device)).logits.float()
        return [self._ranked(row) for row in self._scores(logits).tolist()]

    def _agree_on_padding(self) -> bool:
        """Whether tokenizer and model have a padding token. Without one a batch runs text by text:
        another token could occur in a text."""
        tokenizer, config = self._tokenizer, self._model.config
        known = getattr(config, "pad_token_id", None)
        if tokenizer.pad_token_id is None and known is not None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(known)
        if known is None:
            config.pad_token_id = tokenizer.pad_token_id
        return tokenizer.pad_token_id is not None

    def _ranked(self, scores: list[float]) -> list[dict[str, Any]]:
        names = self._model.config.id2label
        ranked = [
            {"label": str(names.get(number, f"LABEL_{number}")), "score": score}
            for number, score in enumerate(scores)
        ]
        return sorted(ranked, key=lambda item: -float(item["score"]))


def _function(config: Any) -> Any:
    """Logits → scores, chosen as the pipeline does."""
    if config.problem_type == "regression":
        return lambda logits: logits
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return torch.sigmoid
    return lambda logits: logits.softmax(-1)
