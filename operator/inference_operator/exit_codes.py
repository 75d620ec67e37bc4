"""Text for how a runner's process ended."""

from __future__ import annotations

from signal import Signals


def in_words(code: int | None) -> str:
    """
    Args:
        code: as in `subprocess`: a negative number is the signal that ended it; None if unknown.
    """
    if code is None:
        return "the runner died"
    if code < 0:
        is_known = -code in list(Signals)
        return f"the runner was killed by {Signals(-code).name if is_known else f'signal {-code}'}"
    return f"the runner ended with exit code {code}"
