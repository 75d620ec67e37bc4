"""Medians and tables: figures stand side by side, the target next to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

ROUNDS = 3
"""Every comparison is measured so often, interleaved; the middle value counts."""


def middle(values: Iterable[float]) -> float:
    return median(list(values))


def ratio(values: Iterable[float], base: Iterable[float]) -> float:
    """The middle one of the turns' ratios: within a turn the machine is the same."""
    return middle(value / other for value, other in zip(values, base, strict=True))


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print columns; the first is text, the others are aligned to the right."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]), flush=True)


def target(
    name: str, value: float, limit: float, unit: str = "", *, at_least: bool = False
) -> None:
    """Print a figure beside what the project asks of it."""
    reached = value >= limit if at_least else value <= limit
    sign = "≥" if at_least else "≤"
    verdict = "reached" if reached else "MISSED"
    print(
        f"{name}: {_short(value)}{unit} (target {sign} {_short(limit)}{unit}: {verdict})",
        flush=True,
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
