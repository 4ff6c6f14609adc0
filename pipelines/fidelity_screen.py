"""Fidelity on the terminal: one table, a row a figure."""

from collections.abc import Mapping
from typing import Any

from usersim.fidelity.summary import POINTS

COLUMNS = ("", "value", "95 % interval", "floor", "baseline")


def screen(table: Mapping[str, Any]) -> str:
    """The summary as text: points, figures with interval, floor (mean, largest), baseline."""
    rows: list[tuple[str, ...]] = []
    point = ""
    for row in table["summary"]:
        if row["point"] != point:
            point = row["point"]
            rows.append((POINTS.get(point, point),))
        rows.append((f"  {row['name']}", *figures_of(row)))
    lines = _aligned([COLUMNS, *rows])
    left = [f"left out: {name}: {why}" for name, why in table["left_out"].items()]
    return "\n".join([*lines, "", *left] if left else lines)


def figures_of(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """A row's value, interval, floor and baseline as text."""
    unit = row["unit"]
    span = ""
    if row["low"] is not None and row["high"] is not None:
        span = f"{shown(row['low'], unit)} to {shown(row['high'], unit)}"
    floor = shown(row["floor"], unit)
    if row["floor_high"] is not None:
        floor += f", at most {shown(row['floor_high'], unit)}"
    return shown(row["value"], unit), span, floor, shown(row["prompted"], unit)


def shown(value: float | None, unit: str) -> str:
    """A figure in its unit: shares and errors in percent, the others to three digits."""
    if value is None:
        return "\N{EN DASH}"
    if unit == "error":
        return f"{value:+.1%}"
    if unit == "share":
        return f"{value:.1%}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows if len(row) > n) for n in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.ljust(widths[n]) if n == 0 else cell.rjust(widths[n]) for n, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]
