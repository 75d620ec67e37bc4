"""Removes paths of the runner's machine from texts for callers."""

from __future__ import annotations

import re

# Absolute paths of at least two parts; not in URLs, whose slashes follow a colon or a slash.
_PATH = re.compile(r"(?<![\w.:/~-])(?:~|[A-Za-z]:)?/(?:[^\s/'\"<>:,;()]+/)+([^\s/'\"<>:,;()]*)")


def without(text: str) -> str:
    """Keep only the last part of each absolute path."""
    return _PATH.sub(lambda found: found[1] or "…", text)
