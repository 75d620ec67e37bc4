"""`make bench`: figures side by side, medians of three interleaved rounds, targets next to them.

`make bench PARTS="echo stream"` runs some parts only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import coldstart
import depth
import echo
import fleet
import hostile
import load
import start
import stream
from scaling.measure import measure as scaling
from stack import Stack, running


def _on_a_stack(*parts: Callable[[Stack], None]) -> None:
    with running() as (stack,):
        for part in parts:
            part(stack)


PARTS: dict[str, Callable[[], None]] = {
    "echo": lambda: _on_a_stack(echo.measure),
    "creates": lambda: _on_a_stack(echo.creates),
    "stream": lambda: _on_a_stack(stream.measure),
    "hostile": lambda: _on_a_stack(hostile.measure),
    "start": start.measure,
    "depth": depth.measure,
    "scaling": scaling,
}
ON_A_CLUSTER: dict[str, Callable[[], None]] = {
    "fleet": fleet.measure,
    "coldstart": coldstart.measure,
}
"""Only when they are named."""
_WITHOUT_LOAD = {*ON_A_CLUSTER, "hostile", "scaling"}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    parts = PARTS | ON_A_CLUSTER
    unknown = set(chosen) - set(parts)
    if unknown:
        raise SystemExit(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}")
    if set(chosen) - _WITHOUT_LOAD:
        load.require_wrk()
    # So that servers are stopped when the benchmark is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    print(f"{os.cpu_count()} cores; load before: {os.getloadavg()[0]:.1f}")
    for name in chosen:
        parts[name]()
    print(f"\n{time.monotonic() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
