"""Pictures in and out as `data:` URLs."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from inference_runner.engines.base import InputError

MAX_PIXELS = 50_000_000
"""Beyond this a small file may unpack into gigabytes."""


def decode(url: object) -> Image.Image:
    """Raises InputError if it is not a `data:` URL of a picture."""
    if not isinstance(url, str) or not url.startswith("data:"):
        raise InputError("image must be a data: URL; other URLs are not fetched, send a data: URL")
    head, _, body = url.partition(",")
    if not head.endswith(";base64"):
        raise InputError("image must be a base64 data: URL")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"image has more than {MAX_PIXELS} pixels")
        return image.convert("RGB")
    except (binascii.Error, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"image cannot be read: {error}") from error


def encode(image: Image.Image) -> str:
    """A PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
