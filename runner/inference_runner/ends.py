"""The runner's ends of the pipes to its parent, and the pause before loading."""

from __future__ import annotations

from typing import NamedTuple


class Ends(NamedTuple):
    log: int
    """Descriptor of the log."""
    echo: int
    """Read end, non-blocking: output written to descriptors 1 and 2."""
    alive: int
    """Write end, non-blocking: a byte now and then shows that the runner's threads run."""
    pause: float = 0.0
    """Seconds to wait before loading, as backoff after children that died soon."""
