"""Which of two media types an `Accept` header prefers (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re

_QUALITY = re.compile(r";\s*q\s*=\s*(\d(?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_Place = tuple[float, int]


def prefers(accept: str, wanted: str, usual: str) -> bool:
    """Whether `wanted` has the higher quality, or the same and is named before `usual`."""
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    quality, place = _find(ranges, wanted)
    other, behind = _find(ranges, usual)
    return quality > other or (quality == other > 0 and place < behind)


def _range(part: str) -> tuple[str, float]:
    """A media range, without its parameters, and its quality."""
    found = _QUALITY.search(part)
    return part.partition(";")[0].strip().lower(), float(found[1]) if found else 1.0


def _find(ranges: list[tuple[str, float]], media_type: str) -> _Place:
    """Quality of the most specific matching range (0 if none matches), and its position."""
    names = [name for name, _ in ranges]
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in names:
            place = names.index(name)
            return ranges[place][1], place
    return 0.0, len(ranges)
