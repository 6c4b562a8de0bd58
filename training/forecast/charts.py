"""Charts and terminal text of the forecast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor
from typing import Any

from configs.runtime.formatting import day, fixed, money, percent, plural, signed
from training.reporting.chart_types import DotChart, DotRow, Estimated, LegendItem
from training.reporting.charts import AXIS, ROW, Axis, dot_row, tick

Content = Mapping[str, Any]

MEASURES = {"grr": "GRR", "nrr": "NRR", "share": "Share retained"}
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def rate_axis(values: Sequence[float]) -> tuple[Axis, list[float]]:
    """Return an axis of round rates around some values, and its ticks.

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


def periods_chart(periods: Sequence[Content]) -> DotChart:
    """Return the chart of GRR and NRR of every forecast period."""
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


def past_chart(past: Sequence[Content], measure: str) -> DotChart:
    """Return the chart of forecasts of past quarters, with the outcome and the year before."""
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
    legend: list[LegendItem] = [
        {"shape": "dot", "text": "forecast, P10 to P90"},
        {"shape": "diamond", "text": "actual"},
        {"shape": "square", "text": "the same quarter a year before"},
    ]
    return _dots(rows, axis, marks, legend)


def _estimate(band: Mapping[str, float]) -> Estimated:
    return {"value": band["p50"], "low": band["p10"], "high": band["p90"]}


def _dots(
    rows: list[DotRow], axis: Axis, marks: Sequence[float], legend: list[LegendItem]
) -> DotChart:
    summary = "; ".join(f"{row['label']} {row['text']}" for row in rows)
    return {
        "rows": rows,
        "ticks": [tick(axis, mark, percent(mark, 1)) for mark in marks],
        "zones": [],
        "legend": legend,
        "desc": f"{summary}.",
        "axis_y": len(rows) * ROW - 4,
        "height": len(rows) * ROW + AXIS,
    }


def forecast_lines(content: Content) -> Iterator[str]:
    """Yield the lines of a company's forecast for the terminal."""
    yield from content["words"]
    if content["kind"] == "spend":
        yield from _spend(content)
    if content["kind"] == "recurring":
        yield from _recurring(content)
    if "backtest" in content:
        yield from _past(content)


def _spend(content: Content) -> Iterator[str]:
    currency, usual = content["currency"], content["usual_spend"]
    yield ""
    yield f"Usual spend of {content['horizon_days']} days: {money(usual, currency)}, of which"
    yield f"  {band_text(content['share'])} is from accounts that stay active (P50, P10 to P90)"


def _recurring(content: Content) -> Iterator[str]:
    currency = content["currency"]
    yield ""
    yield f"ARR on {day(content['as_of'])}: {money(content['arr'], currency)}"
    for period in content["periods"]:
        yield ""
        yield f"{period['name']}  (P50 [P10, P90])"
        for measure in ("grr", "nrr"):
            if period[measure] is not None:
                so_far = period["to_date"]
                to_date = f"   to date {percent(so_far[measure], 1)}" if so_far else ""
                yield f"  {measure.upper()}  {band_text(period[measure])}{to_date}"
        lost = period["lost"]
        yield (
            f"  ARR lost {money(lost['p50'], currency)} [{money(lost['p10'])}, "
            f"{money(lost['p90'])}], of which {money(period['known_lost'])} is known"
        )
        for group in period["groups"]:
            if group["grr"] is not None:
                yield f"    {group['kind']:8} {group['name'][:28]:28} {band_text(group['grr'])}"
    yield ""
    yield "Renewals due"
    for due in content["renewals"]:
        yield "  " + _due(due, currency)
    top = content["concentration"]
    yield f"The ten largest accounts hold {percent(top['share'])} of the ARR."


def _due(due: Content, currency: str) -> str:
    lost = due["expected_lost"]
    loss = "not forecast: further ahead than the model was tested"
    if lost is not None:
        loss = f"expected ARR lost {money(lost, currency)}"
    return (
        f"{due['quarter']}: {plural(due['accounts'], 'account')} with "
        f"{money(due['arr'], currency)}; open "
        f"{money(due['open_arr'])}, ARR in at-risk accounts {money(due['at_risk_arr'])}; {loss}"
    )


def _past(content: Content) -> Iterator[str]:
    past = content["backtest"]["summary"]
    yield ""
    yield f"Backtest over {past['quarters']} past quarters. " + " ".join(past["words"])
    for measure in ("grr", "nrr", "share"):
        if measure in past:
            found = past[measure]
            rival = found["crps_last_year"]
            last_year = f", same as last year {fixed(rival, 4)}" if rival is not None else ""
            yield (
                f"  {measure.upper()}: {found['covered']} of {past['quarters']} within P10 to P90, "
                f"bias {signed(100 * found['bias'], 1)} percentage points, "
                f"CRPS {fixed(found['crps'], 4)}{last_year}"
            )
    commit = past["commit"]
    if commit:
        currency = content["currency"]
        yield (
            f"  Renewals with a commit: CSMs expected {money(commit['commit_lost'], currency)} "
            f"lost, the model {money(commit['model_lost'], currency)}, actual loss "
            f"{money(commit['actual_lost'], currency)}"
        )
