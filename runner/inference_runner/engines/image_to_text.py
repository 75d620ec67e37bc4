"""Captioning models of transformers: a picture → text."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    VisionEncoderDecoderModel,
)

from inference_runner.engines import images, pretrained
from inference_runner.engines import inputs as read_inputs
from inference_runner.engines.base import BaseInferenceModel, EngineOptions

DEFAULT_NEW_TOKENS = 64


def create(options: EngineOptions) -> ImageToText:
    return ImageToText(options)


class ImageToText(BaseInferenceModel):
    """Models whose only input is an image: vision encoder-decoders, BLIP, GIT and similar."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    def load(self) -> None:
        path = pretrained.folder(self._options)
        encoder_decoder = '"VisionEncoderDecoderModel"' in (path / "config.json").read_text()
        kind = VisionEncoderDecoderModel if encoder_decoder else AutoModelForImageTextToText
        self._model = pretrained.load(kind, self._options)
        load_processor: Any = AutoImageProcessor.from_pretrained  # untyped
        self._processor = load_processor(path, use_fast=False)
        self._tokenizer = AutoTokenizer.from_pretrained(path)
        # The decoder starts with a special token.
        self._room = pretrained.positions(getattr(self._model, "decoder", self._model)) - 1
        grey = images.encode(Image.new("RGB", (64, 64), "grey"))
        self.predict_batch([{"image": grey, "max_new_tokens": 2}] * 2)

    def predict(self, inputs: dict[str, Any]) -> str:
        return self.predict_batch([inputs])[0]

    @torch.inference_mode()
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[str]:
        """One forward for all; each text is cut to its input's max_new_tokens."""
        pictures = [images.decode(inputs.get("image")) for inputs in batch]
        asked = [
            read_inputs.integer(inputs, "max_new_tokens", DEFAULT_NEW_TOKENS, 1) for inputs in batch
        ]
        limits = [min(one, self._room) for one in asked]
        pixels = self._processor(pictures, return_tensors="pt").pixel_values
        pixels = pixels.to(self._model.device, self._model.dtype)
        ids = self._model.generate(
            pixel_values=pixels, max_new_tokens=max(limits), do_sample=False
        ).tolist()
        # A row begins with the decoder's start token, which is not new.
        rows = [row[: limit + 1] for row, limit in zip(ids, limits, strict=True)]
        texts: list[str] = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [text.strip() for text in texts]
