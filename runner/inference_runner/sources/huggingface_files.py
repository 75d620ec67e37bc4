"""Which files of a repository the engines read. Pure.

Repositories hold the same weights in several formats, precisions and splits; one of them is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatch
from typing import Any

Read = Callable[[str], dict[str, Any]]
"""A file of the repository → its JSON."""
_BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.codes", "*.jinja")
"""Configurations, and tokenizers of all kinds."""
_OF_NO_USE = (
    "*.index.json",
    "trainer_state.json",
    "*_results.json",
    "license*",
    "requirements.txt",
)
_NAMES = ("model", "diffusion_pytorch_model")
"""Base names of weights in transformers and diffusers. Variants have a suffix: model.fp16."""


def wanted(names: Collection[str], read: Read) -> set[str]:
    """A pipeline's components, or the one model at the top. No pickles, no code."""
    if "model_index.json" not in names:
        return _of_folder("", names, read)
    components = [key for key, value in read("model_index.json").items() if _is_used(value)]
    found = {"model_index.json"}
    for component in components:
        found |= _of_folder(f"{component}/", names, read)
    return found


def _is_used(component: object) -> bool:
    """Whether it is [library, class]; both are null for an unused component. Others are
    settings."""
    return isinstance(component, list) and len(component) == 2 and all(component)


def _of_folder(folder: str, names: Collection[str], read: Read) -> set[str]:
    inside = [name for name in names if name.startswith(folder) and "/" not in name[len(folder) :]]
    beside = {
        name
        for name in inside
        if _matches(name, _BESIDE_WEIGHTS) and not _matches(name[len(folder) :], _OF_NO_USE)
    }
    return beside | _weights(folder, inside, read)


def _weights(folder: str, inside: Collection[str], read: Read) -> set[str]:
    for name in _NAMES:
        whole = f"{folder}{name}.safetensors"
        if whole in inside:
            return {whole}
        index = f"{whole}.index.json"
        if index in inside:
            shards = {f"{folder}{shard}" for shard in read(index).get("weight_map", {}).values()}
            if shards and shards <= set(inside):
                return {index, *shards}
    return {name for name in inside if name.endswith((".safetensors", ".safetensors.index.json"))}


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in patterns)
