"""What a runner has of its parent."""

from __future__ import annotations

from typing import NamedTuple


class Ends(NamedTuple):
    """File descriptors."""

    log: int
    """The process' log."""
    echo: int
    """What was written to descriptors 1 and 2, to be read; not blocking."""
    alive: int
    """A byte now and then says that the runner's threads get to run; not blocking."""
