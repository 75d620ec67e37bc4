"""Whether a request may have changed anything by now: what an error may say of it.

Whoever is about to commit, or to write where models live, says so first. An error that comes before
left nothing behind; after that nobody knows, whatever the error is.
"""

from __future__ import annotations

from contextvars import ContextVar


class _Changes:
    """Of one request; threads that work for it share the object."""

    have_begun = False


_CURRENT: ContextVar[_Changes | None] = ContextVar("changes", default=None)


def new_request() -> None:
    _CURRENT.set(_Changes())


def begin() -> None:
    """Does nothing outside a request."""
    if (changes := _CURRENT.get()) is not None:
        changes.have_begun = True


def have_begun() -> bool:
    """Of code that is not told which request it is for: perhaps."""
    changes = _CURRENT.get()
    return changes is None or changes.have_begun
