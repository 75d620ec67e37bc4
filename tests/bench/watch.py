"""A process of its own that asks for `/health/live`, on a new connection each time, until its stdin
ends; then prints what it saw as JSON. Arguments: the gateway's port and pid.

On a busy machine most of an answer's time is waiting for a processor. The kernel counts that for
each thread, so that it can be taken off: `own_ms` is what the gateway's event loop is to blame for.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

import psutil

_PAUSE_SECONDS = 0.02


def _waited_ms(stat: Path) -> float:
    """For a processor, so far."""
    return int(stat.read_text().split()[1]) / 1e6


def main(port: int, pid: int) -> None:
    stats = [Path(f"/proc/{pid}/task/{pid}/schedstat"), Path("/proc/self/schedstat")]
    gateway = psutil.Process(pid)
    seen = {"worst_ms": 0.0, "own_ms": 0.0, "mib": 0.0, "refused": 0}
    while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
        began, waited = time.perf_counter(), sum(map(_waited_ms, stats))
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                seen["refused"] += not client.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            seen["refused"] += 1
        took = 1000 * (time.perf_counter() - began)
        own = took - (sum(map(_waited_ms, stats)) - waited)
        seen["worst_ms"], seen["own_ms"] = max(seen["worst_ms"], took), max(seen["own_ms"], own)
        seen["mib"] = max(seen["mib"], gateway.memory_info().rss / 2**20)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
