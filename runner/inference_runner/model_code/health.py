"""After an error: whether anything can still be run in this process."""

from __future__ import annotations

import sys
from typing import Any


def check(model: Any) -> None:
    """Raises what the next prediction would raise too, whatever its input is.

    An error of a CUDA kernel (an assertion, an illegal access) stays with the process: every later
    call fails with it.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    model.check()


def free_memory() -> None:
    """What a failed batch leaves in the allocator's cache."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
