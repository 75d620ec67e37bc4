"""The engines on a GPU, against transformers' and diffusers' own results: `make gpu-test`.

Needs this checkout and Python 3.11 with torch, transformers, tokenizers, safetensors and Pillow; no
network, no servers, nothing installed: `python3 tests/gpu`. Wheels to bring along where these are
missing, for text-to-image only (without them its row says so):

    diffusers==0.42.1 importlib-metadata==8.7.0

All models are random and made on the spot. On one H100 it ends within 5 minutes. Without CUDA it
says so and does nothing; `--cpu` tries it there, with tiny shapes.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("crds", "runner", "tests/plugins", "tests/gpu")]

Rows = Iterator[tuple[str, str, bool]]
"""What was looked at, what was seen, whether it is right."""


def main() -> int:
    parser = argparse.ArgumentParser(description="The engines on a GPU.")
    parser.add_argument("--cpu", action="store_true", help="try it without one: tiny shapes")
    parser.add_argument("parts", nargs="*", help="some of: results, speed, errors; default all")
    asked = parser.parse_args()
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        print(f"gpu-test: skipped, {error.name} is not installed")
        return 0
    if not (torch.cuda.is_available() or asked.cpu):
        print("gpu-test: skipped, torch sees no GPU (--cpu tries it with tiny shapes)")
        return 0
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    _do_without_llguidance()
    import errors
    import results
    import speed

    name = "cpu" if asked.cpu else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {name}", flush=True)
    parts: dict[str, Callable[[Path, bool], Rows]] = {
        "results": results.rows,
        "speed": speed.rows,
        "errors": errors.rows,
    }
    wrong, start = 0, time.monotonic()
    for part in asked.parts or parts:
        with tempfile.TemporaryDirectory() as folder:
            wrong += _print(part, parts[part](Path(folder), not asked.cpu))
    print(f"{wrong} wrong, {time.monotonic() - start:.0f} s")
    return min(wrong, 1)


def _do_without_llguidance() -> None:
    """Only `response_format` needs it, which nothing here asks for."""
    if importlib.util.find_spec("llguidance") is None:
        for name in ("llguidance", "llguidance.hf"):
            sys.modules[name] = types.ModuleType(name)


def _print(part: str, rows: Rows) -> int:
    """The rows as they come; how many were wrong."""
    wrong = 0
    try:
        for what, seen, right in rows:
            wrong += not right
            print(f"{part:<8} {what:<48} {'' if right else 'WRONG: '}{seen}", flush=True)
    except Exception:
        seen = "\n".join(traceback.format_exc().splitlines()[-15:])
        print(f"{part:<8} {'broke off':<48} WRONG: {seen}", flush=True)
        return wrong + 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
