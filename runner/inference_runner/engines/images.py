"""Pictures in and out as `data:` URLs."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from typing import Any
from urllib.parse import unquote_to_bytes

from PIL import Image, ImageOps, UnidentifiedImageError

from inference_runner.engines.base import InputError

MAX_PIXELS = 50_000_000
"""Beyond this a small file may unpack into gigabytes."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats with decoders in this process. Pillow's others start programs or are not needed."""
_KNOWN = "a picture in PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"


def decode(url: object) -> Image.Image:
    """The picture in RGB, as a viewer shows it: rotated by its EXIF orientation, transparent parts
    on white, the first frame of an animation. Colour profiles are not applied.

    Raises:
        InputError: if it is not a `data:` URL of a picture.
    """
    data = _bytes(url)
    if re.match(rb"\s*(\xef\xbb\xbf)?\s*<", data):
        raise InputError(f"image holds SVG, HTML or XML; send {_KNOWN}")
    try:
        with warnings.catch_warnings(action="ignore"):  # About odd files; not useful here.
            return _decode(data)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"image cannot be read: it is not {_KNOWN}") from None
    except Exception as error:  # A broken file makes a decoder raise anything.
        raise InputError(f"image cannot be read: {error}") from error


def encode(image: Image.Image) -> str:
    """A PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _bytes(url: object) -> bytes:
    """Decode either alphabet of base64, with or without padding, percent-encoded or wrapped."""
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise InputError("image must be a data: URL; other URLs are not fetched, send a data: URL")
    head, comma, body = url[5:].partition(",")
    if not comma or head.rpartition(";")[2].strip().lower() != "base64":
        raise InputError("image must be a base64 data: URL: data:image/png;base64,…")
    if "%" in body:
        body = unquote_to_bytes(body).decode("latin-1")
    body = "".join(body.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image cannot be read: its base64 is not valid: {error}") from error
    if not data:
        raise InputError("image cannot be read: it is empty")
    return data


def _decode(data: bytes) -> Image.Image:
    image: Any = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} by {image.height}"
        raise InputError(f"image has {size}, more than {MAX_PIXELS} pixels")
    image.load()
    image = _eight_bits(ImageOps.exif_transpose(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")  # type: ignore[no-any-return]


def _eight_bits(image: Any) -> Any:
    """Convert 16-bit greys to 8 bits; Pillow's own conversion makes most of them white."""
    if image.mode == "F":
        raise InputError("image has floating-point pixels; send 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    wide = image.convert("I")
    if wide.getextrema()[1] > 0xFFFF:
        raise InputError("image has pixels of more than 16 bits; send 8 or 16 bits")
    return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")
