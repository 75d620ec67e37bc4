"""What the processes of a stack cost: CPU seconds and memory, by name."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Raises SystemExit when the process ends, or does not listen in time."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} does not listen on port {port}")


Groups = Mapping[str, list[int]]
"""Pids by name. What they started belongs to them, unless it is listed itself."""


def cpu_seconds(groups: Groups) -> dict[str, float]:
    """User and system time so far, that of ended children included."""
    return {name: sum(map(_cpu, members)) for name, members in _members(groups).items()}


def memory_mib(groups: Groups) -> dict[str, tuple[float, float]]:
    """Resident size, and proportional share, in which what processes share counts once."""
    sizes = {}
    for name, members in _members(groups).items():
        rollups = [Path(f"/proc/{member.pid}/smaps_rollup").read_text() for member in members]
        rss, pss = (sum(_kib(text, field) for text in rollups) for field in ("Rss", "Pss"))
        sizes[name] = (rss / 1024, pss / 1024)
    return sizes


def _members(groups: Groups) -> dict[str, list[psutil.Process]]:
    listed = {pid for pids in groups.values() for pid in pids}

    def below(process: psutil.Process) -> list[psutil.Process]:
        try:
            children = [child for child in process.children() if child.pid not in listed]
        except psutil.NoSuchProcess:
            return []
        return [process, *(member for child in children for member in below(child))]

    return {
        name: [m for pid in pids if psutil.pid_exists(pid) for m in below(psutil.Process(pid))]
        for name, pids in groups.items()
    }


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _kib(rollup: str, field: str) -> int:
    lines = (line.split() for line in rollup.splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{field}:")
