"""Text classifiers of transformers: a text → its labels, the likeliest first."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

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
        config = self._model.config
        self._longest = min(config.max_position_embeddings, self._tokenizer.model_max_length)
        self._labels = [config.id2label[number] for number in range(config.num_labels)]
        self._multi = config.problem_type == "multi_label_classification"

    def predict(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        return self.predict_batch([inputs])[0]

    @torch.inference_mode()
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        texts = [inputs.get("text") for inputs in batch]
        if not all(isinstance(text, str) for text in texts):
            raise InputError("text must be a string")
        encoded = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        logits = self._model(**encoded.to(self._model.device)).logits.float()
        scores = logits.sigmoid() if self._multi else logits.softmax(-1)
        return [self._ranked(row) for row in scores.tolist()]

    def _ranked(self, scores: list[float]) -> list[dict[str, Any]]:
        pairs = zip(self._labels, scores, strict=True)
        ranked = [{"label": label, "score": score} for label, score in pairs]
        return sorted(ranked, key=lambda item: -float(item["score"]))
