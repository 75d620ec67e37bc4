"""Limit the size of logs that running processes append to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def earlier(path: Path) -> Path:
    """The file with the lines from before the last rotation."""
    return path.with_suffix(".log.1")


def rotate(path: Path, limit: int) -> bool:
    """Rotate a log larger than `limit` bytes; it replaces the earlier rotated file.

    The writing process keeps the file open, so the log is copied and truncated (logrotate's
    copytruncate: appends continue at the beginning). Lines written between copy and truncation are
    lost.

    Returns:
        Whether the log was rotated.

    Raises:
        OSError: for instance when the disk is full. The log is truncated all the same.
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
