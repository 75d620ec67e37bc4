"""Pictures reach a model as a viewer shows them."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from inference_runner.engines import images
from inference_runner.engines.base import InputError

GREY, RED, WHITE = (128, 128, 128), (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def half_red(mode: str) -> Image.Image:
    """The left is opaque red, the right a red that nobody sees."""
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    return image.convert(mode)


def palette() -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return encoded(image, transparency=1)


def sixteen_bits(format: str = "PNG") -> bytes:
    image = Image.new("I;16", (2, 1), 0x8080)
    image.putpixel((1, 0), 0xFFFF)
    return encoded(image, format)


def turned(orientation: int) -> bytes:
    """Stored lying: red left, white right. 6: it is to be turned clockwise."""
    image = Image.new("RGB", (16, 8), WHITE)
    image.paste(RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, exif=exif)


def animation() -> bytes:
    second = Image.new("RGB", (2, 1), WHITE)
    return encoded(Image.new("RGB", (2, 1), RED), "GIF", save_all=True, append_images=[second])


def cmyk() -> bytes:
    return encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (encoded(half_red("RGBA")), [RED, WHITE]),
        (encoded(half_red("LA")), [(76, 76, 76), WHITE]),
        (encoded(half_red("RGBA"), "WEBP", lossless=True, exact=True), [RED, WHITE]),
        (palette(), [RED, WHITE]),
        (sixteen_bits(), [GREY, WHITE]),
        (sixteen_bits("TIFF"), [GREY, WHITE]),
        (b"P5 2 1 65535\n\x80\x80\xff\xff", [GREY, WHITE]),
        (encoded(Image.new("L", (2, 1), 128)), [GREY, GREY]),
        (encoded(Image.new("1", (2, 1), 1)), [WHITE, WHITE]),
        (encoded(Image.new("RGB", (2, 1), RED), transparency=RED), [WHITE, WHITE]),
        (animation(), [RED, RED]),
    ],
    ids=[
        "alpha",
        "grey with alpha",
        "webp with alpha",
        "palette with a transparent colour",
        "16 bits",
        "16 bits, TIFF",
        "16 bits, PGM",
        "grey",
        "black and white",
        "a transparent colour",
        "animation",
    ],
)
def test_pixels(data: bytes, pixels: list[tuple[int, ...]]) -> None:
    image = images.decode(url(data))
    assert image.mode == "RGB"
    assert [image.getpixel((x, 0)) for x in range(2)] == pixels


def test_cmyk() -> None:
    red, green, blue = images.decode(url(cmyk())).getpixel((4, 4))  # type: ignore[misc]
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize(("orientation", "size"), [(1, (16, 8)), (6, (8, 16)), (3, (16, 8))])
def test_the_camera_says_what_is_up(orientation: int, size: tuple[int, int]) -> None:
    image = images.decode(url(turned(orientation)))
    assert image.size == size
    top = image.getpixel((4, 2))
    assert top == (WHITE if orientation == 3 else RED)


DATA = encoded(Image.new("RGB", (2, 1), RED))
BODY = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "form",
    [
        f"data:image/png;base64,{BODY}",
        f"DATA:image/png;charset=utf-8;BASE64,{BODY}",
        f"data:;base64,{BODY}",
        f"data:image/png;base64,{BODY.rstrip('=')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(DATA).decode()}",
        "data:image/png;base64," + BODY.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png;base64," + "\n".join(BODY[at : at + 20] for at in range(0, len(BODY), 20)),
        f"data:image/jpeg;base64,{BODY}",
    ],
)
def test_forms_of_a_data_url(form: str) -> None:
    assert images.decode(form).getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), "SVG, HTML or XML"),
        (url(b"\xef\xbb\xbf\n<!DOCTYPE html>"), "SVG, HTML or XML"),
        (url(b"%PDF-1.7"), "is not a picture in PNG, JPEG"),
        (url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is not a picture in PNG"),
        (url(encoded(Image.effect_noise((99, 99), 50))[:-999]), "cannot be read"),
        (url(encoded(Image.effect_noise((99, 99), 50), "JPEG")[:-999]), "cannot be read"),
        (url(DATA[:40] + b"\xff" * 9 + DATA[49:]), "cannot be read"),
        (url(encoded(Image.new("F", (2, 1), 0.5), "TIFF")), "floating-point pixels"),
        ("data:image/png;base64,", "it is empty"),
        ("data:image/png;base64", "base64 data: URL"),
        ("data:image/png,raw", "base64 data: URL"),
        ("data:image/png;base64,ä", "base64 is not valid"),
        ("https://example.com/a.png", "send a data: URL"),
        ("/etc/passwd", "send a data: URL"),
        (7, "send a data: URL"),
    ],
)
def test_refused(form: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        images.decode(form)


def test_a_bomb_is_refused_before_it_unpacks() -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    with pytest.raises(InputError, match="pixels"):
        images.decode(url(bomb))
