"""Loading what transformers has saved: safetensors only, and never code from the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from inference_runner.engines.base import EngineError, EngineOptions


def folder(options: EngineOptions, config: str = "config.json") -> Path:
    """Raises EngineError if there is no model in the folder."""
    if not (options.path / config).is_file():
        raise EngineError(f"{options.path} is not a model: it has no {config}")
    return options.path


def device(options: EngineOptions) -> str:
    """Raises EngineError if a GPU is asked for and there is none."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("ENABLE_GPU is true, but torch sees no GPU")
    return options.device


def dtype(options: EngineOptions) -> Any:
    """`auto` is what the weights were saved in."""
    return "auto" if options.dtype == "auto" else getattr(torch, options.dtype)


def load(auto_class: Any, options: EngineOptions) -> Any:
    """The model, ready to infer, on its device.

    Raises:
        EngineError: if the folder is not such a model.
    """
    where = device(options)
    silence: Any = transformers.utils.logging.disable_progress_bar  # untyped
    silence()  # the log is read line by line
    try:
        model = auto_class.from_pretrained(
            folder(options),
            dtype=dtype(options),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"{options.path} is not a model that loads: {error}") from error
    return model.to(where).eval()
