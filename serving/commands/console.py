"""Output of the command line: tables, steps, JSON and errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console, ConsoleDimensions
from rich.table import Table

UNCUT = 1_000_000
"""Columns of an output that is not a terminal."""


class Output(Console):
    """Standard output: as wide as the terminal; in a pipe or a file, lines are never cut."""

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and rows of the output."""
        measured = super().size
        return measured if self.is_terminal else ConsoleDimensions(UNCUT, measured.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


console = Output(highlight=False)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)  # commands stay in one piece


class Steps:
    """Prints one line per step, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print one step."""
        since = time.monotonic() - self._start
        console.print(f"[dim]{since:6.1f} s[/]  {escape(text)}", soft_wrap=True)


def steps_unless(as_json: bool) -> Callable[[str], None]:
    """Return a printer of steps; with JSON output, one that prints nothing."""
    return (lambda _: None) if as_json else Steps()


def lines_of(*headers: str) -> Table:
    """Return a table without borders; on a narrow terminal, values are folded, not cut."""
    table = Table(box=None)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def print_json(content: Any) -> None:
    """Print JSON and nothing else."""
    typer.echo(json.dumps(content, indent=1, default=str))


def print_text(text: object) -> None:
    """Print a line as it is: no markup, never wrapped."""
    console.print(str(text), markup=False, soft_wrap=True)


def print_file(path: object, *, pdf: bool = False) -> None:
    """Print the path of a file that was written; with `pdf`, write it as PDF too."""
    print_text(f"wrote {path}")
    if pdf:
        from pathlib import Path

        from training.reporting.pdf import print_pdf

        print_text(f"wrote {print_pdf(Path(str(path)))}")


def escape(text: str) -> str:
    """Return a text in which brackets are not markup."""
    return text.replace("[", r"\[")
