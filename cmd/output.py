"""How things are printed: tables, JSON, amounts of time."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from xnode.core.values import NS

UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
SHORT_HEX: Final = 12  # enough of a hash to name it among one's own

json_option: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """Indented JSON on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Columns as wide as their widest cell; the sentence `empty` where there are no rows."""
    if not rows:
        click.echo(empty)
        return
    for line in table_lines(head, rows):
        click.echo(line)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The table's lines, its head first."""
    cells = [[name.upper() for name in head], *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def short(text: str) -> str:
    """The first characters of a hash or address."""
    return text[:SHORT_HEX]


def show_duration(seconds: float) -> str:
    """The two largest units: `1d 2h`, `58s`."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def show_bytes(count: int | None) -> str:
    """In the largest unit of which there is one: `1.5 GiB`, `12 B`; `unknown` for None."""
    if count is None:
        return "unknown"
    size, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while size >= 1024:
        bigger = next(units, None)
        if bigger is None:
            break
        size, unit = size / 1024, bigger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def seconds_left(lease: dict[str, Any], now_ns: int) -> float:
    """Seconds until an accepted lease expires; below zero once it is over."""
    return float(lease["start_time"] + lease["duration"] * NS - now_ns) / NS


def progress(text: str) -> None:
    """One line for somebody who waits, on stderr so that pipes stay clean."""
    click.echo(text, err=True)
