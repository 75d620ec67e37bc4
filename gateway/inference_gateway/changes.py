"""Whether the current request may have changed anything, for the text of error messages.

Code calls `begin` before it commits or writes a model. An error before that has changed nothing;
after it the outcome is unknown.
"""

from __future__ import annotations

from contextvars import ContextVar


class _Changes:
    """The state of one request; threads that work for it share the object."""

    have_begun = False


_CURRENT: ContextVar[_Changes | None] = ContextVar("changes", default=None)


def new_request() -> None:
    _CURRENT.set(_Changes())


def begin() -> None:
    """Does nothing outside a request."""
    if (changes := _CURRENT.get()) is not None:
        changes.have_begun = True


def have_begun() -> bool:
    """True if unknown: outside of a request."""
    changes = _CURRENT.get()
    return changes is None or changes.have_begun
