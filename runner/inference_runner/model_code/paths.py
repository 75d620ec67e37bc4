"""Texts of a runner without the paths of its machine: callers may be strangers to it."""

from __future__ import annotations

import re

# Absolute, and of two parts at least; not of a URL, whose slashes follow a colon or a slash.
_PATH = re.compile(r"(?<![\w.:/~-])(?:~|[A-Za-z]:)?/(?:[^\s/'\"<>:,;()]+/)+([^\s/'\"<>:,;()]*)")


def without(text: str) -> str:
    """Of each absolute path only its last part."""
    return _PATH.sub(lambda found: found[1] or "…", text)
