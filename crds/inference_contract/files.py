"""How many files a process may have open."""

from __future__ import annotations

import resource


def raise_limit() -> int:
    """Lift the soft limit of open files to the hard one; returns it.

    The usual soft limit, 1,024, is for programs that call `select`. Each connection is a file, and
    what a process starts inherits its limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
