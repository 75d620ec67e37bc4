"""The logs of a run: what its code has printed."""

from __future__ import annotations

import re
import threading

MAX_LOG_BYTES = 100_000
"""Of one prediction; the last bytes are kept."""
MAX_DELTA_BYTES = 20_000
"""Log bytes in one stream entry."""

_OVERWRITTEN = re.compile(r"[^\r\n]*\r+(?!\n|\r)")
_lock = threading.Lock()


class Prints:
    """Collects text; keeps the last MAX_LOG_BYTES. Thread-safe."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0
        self._dropped = 0
        self._fresh: list[str] = []
        self._missed = 0
        """Bytes that were dropped before they were sent."""

    def add(self, text: str) -> None:
        if "\0" in text:
            text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        with _lock:
            self._parts.append(text)
            self._fresh.append(text)
            self._size += _bytes(text)
            if self._size > 2 * MAX_LOG_BYTES:
                self._trim()

    @property
    def has_news(self) -> bool:
        return bool(self._fresh)

    def news(self) -> str:
        """The text since the last call; only the end of it if it is long."""
        with _lock:
            fresh, self._fresh = "".join(self._fresh), []
            missed, self._missed = self._missed, 0
        text, dropped = _last(fresh, MAX_DELTA_BYTES)
        dropped += missed
        said = _shown(text)
        return (_note(dropped) if dropped else "") + ("\r" if "\r" in text[:1] else "") + said

    @property
    def text(self) -> str:
        """The whole text, or its end with the number of missing bytes."""
        with _lock:
            self._trim()
            text = "".join(self._parts)
        return (_note(self._dropped) if self._dropped else "") + _shown(text)

    def _trim(self) -> None:
        text, dropped = _last("".join(self._parts), MAX_LOG_BYTES)
        self._parts, self._size = [text], _bytes(text)
        self._dropped += dropped
        if len(self._fresh) > 1:
            text, dropped = _last("".join(self._fresh), MAX_LOG_BYTES)
            self._fresh = [text]
            self._missed += dropped


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _last(text: str, limit: int) -> tuple[str, int]:
    """The last `limit` bytes, and how many were before them."""
    if _bytes(text) <= limit:
        return text, 0
    encoded = text.encode("utf-8", "replace")
    return encoded[-limit:].decode("utf-8", "ignore"), len(encoded) - limit


def _shown(text: str) -> str:
    """The text as a terminal shows it: a progress bar in its last state."""
    return _OVERWRITTEN.sub("", text) if "\r" in text else text


def _note(dropped: int) -> str:
    return f"[{dropped} bytes before this are not kept]\n"
