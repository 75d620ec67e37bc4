"""Diffusion pipelines of diffusers: a text → a picture."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline

from inference_runner.engines import images, pretrained
from inference_runner.engines.base import (
    BaseInferenceModel,
    EngineError,
    EngineOptions,
    InputError,
)


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

    def predict(self, inputs: dict[str, Any]) -> str:
        prompt = inputs.get("prompt")
        if not isinstance(prompt, str):
            raise InputError("prompt must be a string")
        seed = inputs.get("seed")
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(int(seed))
        wanted = ("num_inference_steps", "width", "height")
        asked = {name: int(inputs[name]) for name in wanted if inputs.get(name) is not None}
        for name in {"width", "height"} & asked.keys():
            if asked[name] % 8:
                raise InputError(f"{name} must be a multiple of 8, not {asked[name]}")
        return images.encode(self._pipeline(prompt, generator=generator, **asked).images[0])
