"""Converts tokens to text, one by one. Pure, except for the tokenizer's decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"
_CONTEXT = 8


class Detokenizer:
    """Returns the text of one request in pieces; the pieces joined are its whole text.

    Holds back incomplete characters, and text that may be the beginning of a stop string.

    Args:
        decode: token ids → text.
        stop: the text ends before the first of these.
        hidden: tokens that are not part of the text, such as the end of a turn, and their text in
            stop strings.
        prompt: tokens before the first one: SentencePiece drops the space of a first token.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop: Sequence[str] = (),
        hidden: Mapping[int, str] | None = None,
        prompt: Sequence[int] = (),
    ) -> None:
        self._decode, self._stop, self._hidden = decode, stop, hidden or {}
        self._ids = self._end_of(prompt)
        # Ids before `_read` are decoded; those from `_prefix` on are decoded again together with
        # later ones, as a token's text depends on the tokens before it.
        self._prefix, self._read = 0, len(self._ids)
        self._held = ""
        self._shown: list[bool] = []
        """Whether each character of `_held` is text, or of a hidden token."""
        self.stopped = False
        """A stop string has occurred: no more text follows."""

    def _end_of(self, prompt: Sequence[int]) -> list[int]:
        """Its last tokens of text, from the beginning of a character."""
        ids = [token for token in prompt[-8 * _CONTEXT :] if token not in self._hidden]
        for length in range(_CONTEXT, len(ids), _CONTEXT):
            if not self._decode(ids[-length:]).startswith(BROKEN):
                return ids[-length:]
        return ids

    def add(self, token: int) -> str:
        """The text that can be released after this token; may be empty."""
        if token in self._hidden:
            return self._release(self._hidden[token], shown=False) if self._stop else ""
        self._ids.append(token)
        return self._release(self._fresh(final=False))

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

    def _release(self, fresh: str, *, shown: bool = True, final: bool = False) -> str:
        if not self._stop:
            return fresh
        text = self._held + fresh
        self._shown += [shown] * len(fresh)
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, end = True, min(found)
        elif final:
            end = len(text)
        else:
            end = len(text) - max(overlap(text, stop) for stop in self._stop)
        released = zip(text[:end], self._shown, strict=False)
        said = "".join(character for character, is_text in released if is_text)
        self._held, self._shown = text[end:], self._shown[end:]
        return said


def overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a prefix of `stop`."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
