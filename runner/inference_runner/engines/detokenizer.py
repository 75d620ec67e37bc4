"""Tokens to text as they come. Pure, but for the tokenizer's decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Gives the text of one request piece by piece; the pieces joined are its whole text.

    Holds back half a character, and what may be the beginning of a stop string.

    Args:
        decode: token ids → text.
        stop: the text ends before the first of these.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, stop
        self._ids: list[int] = []
        # Ids before `_read` are text already; from `_prefix` on they are decoded together with
        # what follows, as a token's text depends on those before it.
        self._prefix = self._read = 0
        self._held = ""
        self.stopped = False
        """A stop string has come: nothing more will."""

    def add(self, token: int) -> str:
        """The text that has become certain, perhaps none."""
        self._ids.append(token)
        return self._release(self._fresh(final=False), final=False)

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        return "" if self.stopped else self._release(self._fresh(final=True), final=True)

    def _fresh(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._prefix : self._read])
        now = self._decode(self._ids[self._prefix :])
        if len(now) <= len(before) or (now.endswith(BROKEN) and not final):
            return ""
        self._prefix, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _release(self, fresh: str, *, final: bool) -> str:
        text = self._held + fresh
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = 0 if final else max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
