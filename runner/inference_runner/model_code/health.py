"""Checks after an error whether this process can still run predictions."""

from __future__ import annotations

import sys
from typing import Any


def check(model: Any) -> None:
    """Raises an error that every further prediction would raise too.

    An error of a CUDA kernel (an assertion, an illegal access) stays with the process: every later
    call fails with it.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    model.check()


def free_memory() -> None:
    """Free the memory that a failed batch leaves in the allocator's cache."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
