"""Print tables, durations and ages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. On a terminal it fits the width; otherwise no cell is shortened."""
    if not sys.stdout.isatty():
        rows = [columns, *rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)


def duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def ago(moment: str) -> str:
    """RFC 3339 → `5 m ago`."""
    return f"{duration((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())} ago"
