"""Logs that processes append to while they live, kept from growing without bound."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def earlier(path: Path) -> Path:
    """Where the lines before the last rotation are."""
    return path.with_suffix(".log.1")


def rotate(path: Path, limit: int) -> bool:
    """Put a log aside that is larger than `limit` bytes, in place of the last such.

    The process that writes it has it open, so it is copied and emptied (as by
    logrotate with copytruncate: whoever appends goes on at the beginning). What is written between
    the two is lost.

    Returns:
        Whether it was.

    Raises:
        OSError: for instance when the disk is full. The log is then emptied all the same.
    """
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    partial = path.with_suffix(".log.part")
    try:
        shutil.copyfile(path, partial)
        partial.replace(earlier(path))
    finally:
        os.truncate(path, 0)
        partial.unlink(missing_ok=True)
    return True
