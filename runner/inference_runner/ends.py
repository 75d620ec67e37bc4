"""What a runner has of its parent: file descriptors, and a word."""

from __future__ import annotations

from typing import NamedTuple


class Ends(NamedTuple):
    log: int
    """The process' log."""
    echo: int
    """What was written to descriptors 1 and 2, to be read; not blocking."""
    alive: int
    """A byte now and then says that the runner's threads get to run; not blocking."""
    pause: float = 0.0
    """Seconds to wait before the model is loaded: those before have died soon."""
