"""Display of results in a notebook: HTML tables, and charts by matplotlib."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RAISES, LOWERS = "#b5482f", "#2f6db5"
"""Colours of what raises and of what lowers a risk; always paired with a label."""

SHOWN_ROWS = 12


def html_table(title: str, table: pd.DataFrame) -> str:
    """Return a heading and the first rows of a table; the text is escaped."""
    rest = len(table) - SHOWN_ROWS
    more = f"<p>{rest:,} more rows</p>" if rest > 0 else ""
    return f"<h4>{escape(title)}</h4>{table.head(SHOWN_ROWS).to_html(border=0)}{more}"


def axes(ax: Axes | None, height: float = 4.0) -> Axes:
    """Return the axes to draw on: those given, or the axes of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(8.0, height))
    return made
