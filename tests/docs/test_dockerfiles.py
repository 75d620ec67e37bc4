"""The three Dockerfiles are one recipe: what mends one of them mends the others.

Docker shares no stage between files; each image can be built from its file alone.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("gateway", "operator", "runner")
HEAD = "ARG PYTHON_IMAGE="
OWN = re.compile(
    # Which packages are installed:
    "--extra|--compile-bytecode|DEVELOPMENT|TORCH_BACKEND|torch|/opt/uv/constraints"
    # How the process is started:
    "|^ENV PYTHONUNBUFFERED=|^EXPOSE|^CMD"
)
"""What may be an image's own."""


def _recipe(part: str) -> list[str]:
    """From the base image on, without the part's name and what is its own."""
    lines = (ROOT / part / "Dockerfile").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(HEAD))
    shared = [line for line in lines[start:] if not OWN.search(line)]
    return [re.sub(rf"\b(inference_)?{part}\b", r"\1PART", line) for line in shared]


def test_the_images_are_made_in_the_same_way() -> None:
    recipe = _recipe(PARTS[0])
    assert len(recipe) > 20
    for part in PARTS[1:]:
        assert _recipe(part) == recipe
