"""The charts of the forecast: bands as lines, what happened as a diamond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import Any

from configs.runtime.formatting import percent
from training.reporting.charts import AXIS, ROW, Axis, dot_row, tick

Plain = dict[str, Any]

MEASURES = {"grr": "GRR", "nrr": "NRR", "share": "Share that stays"}
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def rate_axis(values: Sequence[float]) -> tuple[Axis, list[float]]:
    """Return an axis of round rates around some values, and its marks.

    >>> axis, marks = rate_axis([0.912, 0.985])
    >>> (axis.low, axis.high), marks
    ((0.9, 1.0), [0.9, 0.92, 0.94, 0.96, 0.98, 1.0])
    """
    low, high = min(values, default=0.9), max([1.0, *values])
    step = next((s for s in STEPS if (high - low) / s <= 6), 1.0)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    marks = [round(n * step, 4) for n in range(first, max(last, first + 1) + 1)]
    return Axis(marks[0], marks[-1]), marks


def band_text(band: Mapping[str, float]) -> str:
    r"""Return P50 with P10 and P90.

    >>> band_text({"p10": 0.9, "p50": 0.93, "p90": 0.95})
    '93.0\xa0% [90.0\xa0%, 95.0\xa0%]'
    """
    return f"{percent(band['p50'], 1)} [{percent(band['p10'], 1)}, {percent(band['p90'], 1)}]"


def periods_chart(periods: Sequence[Mapping[str, Any]]) -> Plain:
    """Return the bands of GRR and NRR of every period ahead."""
    shown = [
        (f"{MEASURES[name]}, {period['name']}", period[name], name == "grr")
        for period in periods
        for name in ("grr", "nrr")
        if period[name] is not None
    ]
    axis, marks = rate_axis([band[end] for _, band, _ in shown for end in ("p10", "p90")])
    rows = [
        dot_row(i, axis, label, _estimate(band), band_text(band), is_main=is_main)
        for i, (label, band, is_main) in enumerate(shown)
    ]
    return _dots(rows, axis, marks, [])


def past_chart(past: Sequence[Mapping[str, Any]], measure: str) -> Plain:
    """Return what was forecast for every past quarter, with what happened and last year's."""
    values = [
        item[measure][key]
        for item in past
        for key in ("p10", "p90", "actual", "last_year")
        if item[measure][key] is not None
    ]
    axis, marks = rate_axis(values)
    rows = []
    for i, item in enumerate(past):
        band = item[measure]
        text = f"{band_text(band)}, was {percent(band['actual'], 1)}"
        row = dot_row(i, axis, str(item["quarter"]), _estimate(band), text, is_main=True)
        row["others"] = [{"shape": "diamond", "x": axis(band["actual"])}]
        if band["last_year"] is not None:
            row["others"].append({"shape": "square", "x": axis(band["last_year"])})
        rows.append(row)
    legend = [
        {"shape": "dot", "text": "forecast, P10 to P90"},
        {"shape": "diamond", "text": "what happened"},
        {"shape": "square", "text": "the same quarter a year before"},
    ]
    return _dots(rows, axis, marks, legend)


def _estimate(band: Mapping[str, float]) -> dict[str, float | None]:
    return {"value": band["p50"], "low": band["p10"], "high": band["p90"]}


def _dots(rows: list[Plain], axis: Axis, marks: Sequence[float], legend: list[Plain]) -> Plain:
    said = "; ".join(f"{row['label']} {row['text']}" for row in rows)
    return {
        "rows": rows,
        "ticks": [tick(axis, mark, percent(mark, 1)) for mark in marks],
        "zones": [],
        "legend": legend,
        "desc": f"{said}.",
        "axis_y": len(rows) * ROW - 4,
        "height": len(rows) * ROW + AXIS,
    }
