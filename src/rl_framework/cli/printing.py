"""Tables and values for people: with lines on a terminal, as plain text elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

Row = Sequence[str]


def print_table(headings: Row, rows: Sequence[Row]) -> None:
    """Print rows in columns as wide as their content; plain text never breaks a line, so it can be searched."""
    if sys.stdout.isatty():
        _print_rich(headings, rows)
        return
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    """Print a JSON value, indented, as the only thing on standard output."""
    typer.echo(json.dumps(value, indent=2))


def in_words(settings: Mapping[str, Any]) -> str:
    """Names and values in one line: `gamma=0.98, n_steps=32`; `none` if there are none."""
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "none"


def _print_rich(headings: Row, rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
