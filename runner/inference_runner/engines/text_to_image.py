"""Diffusion pipelines of diffusers: a text → a picture."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from inference_runner.engines import images, pretrained
from inference_runner.engines import inputs as read_inputs
from inference_runner.engines.base import BaseInferenceModel, EngineError, EngineOptions, InputError

_TRIAL_SIZE = 64


def create(options: EngineOptions) -> TextToImage:
    return TextToImage(options)


class TextToImage(BaseInferenceModel):
    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    def load(self) -> None:
        path = pretrained.folder(self._options, "model_index.json")
        dtype = pretrained.dtype(self._options)
        kind = None if dtype == "auto" else dtype
        where = pretrained.device(self._options)
        load: Any = DiffusionPipeline.from_pretrained  # untyped
        try:
            pipeline = load(path, torch_dtype=kind, use_safetensors=True, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(f"{path} is not a pipeline that loads: {error}") from error
        self._pipeline: Any = pipeline.to(where)
        self._pipeline.set_progress_bar_config(disable=True)
        size = {"width": _TRIAL_SIZE, "height": _TRIAL_SIZE}
        self._paint("a tree", {"num_inference_steps": 2, **size}, torch.Generator())

    def predict(self, inputs: dict[str, Any]) -> str:
        prompt = read_inputs.text(inputs, "prompt")
        seed = read_inputs.seed(inputs, secrets.randbits(64))
        wanted = ("num_inference_steps", "width", "height")
        asked = {
            name: read_inputs.integer(inputs, name, 1, 1)
            for name in wanted
            if inputs.get(name) is not None
        }
        for name in {"width", "height"} & asked.keys():
            if asked[name] % 8:
                raise InputError(f"{name} must be a multiple of 8, not {asked[name]}")
        return images.encode(self._paint(prompt, asked, torch.Generator().manual_seed(seed)))

    def _paint(self, prompt: str, asked: dict[str, int], generator: torch.Generator) -> Any:
        """Raises rather than give the black picture that diffusers makes of NaN, or of what its
        safety checker hides."""
        found = self._pipeline(prompt, generator=generator, output_type="np", **asked)
        if any(getattr(found, "nsfw_content_detected", None) or []):
            raise InputError("the model's safety checker hides the picture")
        if not np.isfinite(found.images).all():
            raise FloatingPointError("pixels are NaN; engine.dtype bfloat16 or float32 may help")
        return self._pipeline.numpy_to_pil(found.images)[0]
