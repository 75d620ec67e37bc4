"""Loads models saved by transformers: safetensors only, and never code from the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from inference_runner.engines.base import EngineError, EngineOptions

UNBOUNDED = 1 << 30
"""Positions of a model that has no limit."""


def folder(options: EngineOptions, config: str = "config.json") -> Path:
    """Raises EngineError if there is no model in the folder."""
    if not (options.path / config).is_file():
        raise EngineError(f"{options.path} is not a model: it has no {config}")
    return options.path


def device(options: EngineOptions) -> str:
    """Raises EngineError if a GPU is requested and missing."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("ENABLE_GPU is true, but torch sees no GPU")
    return options.device


def dtype(options: EngineOptions) -> Any:
    """The dtype; `auto` is the one of the saved weights."""
    return "auto" if options.dtype == "auto" else getattr(torch, options.dtype)


def load(auto_class: Any, options: EngineOptions) -> Any:
    """The model, ready to infer, on its device.

    Raises:
        EngineError: the folder is not such a model, or lacks weights: transformers would
            initialize them at random.
    """
    where = device(options)
    silence: Any = transformers.utils.logging.disable_progress_bar  # untyped
    silence()  # the log is read line by line
    try:
        model, info = auto_class.from_pretrained(
            folder(options),
            dtype=dtype(options),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EngineError(f"{options.path} is not a model that loads: {error}") from error
    # Image encoders are saved without the pooler of their class, which is not used.
    missing = sorted(name for name in info["missing_keys"] if ".pooler." not in name)
    if missing:
        raise EngineError(
            f"{options.path} lacks {len(missing)} weights of a {type(model).__name__}, such as "
            f"{missing[0]}: is it a model of another type?"
        )
    return model.to(where).eval()


def positions(model: Any) -> int:
    """The longest sequence that the model takes.

    RoBERTa and related models start counting after the padding token's id: 512 of 514 are usable.
    """
    config = model.config.get_text_config()
    longest = int(getattr(config, "max_position_embeddings", None) or UNBOUNDED)
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith(".position_embeddings") and padding is not None:
            longest = min(longest, module.num_embeddings - padding - 1)
    return longest
