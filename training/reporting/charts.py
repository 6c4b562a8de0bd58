"""Geometry of the SVG charts; the templates draw them.

Horizontal positions are percentages of the width, so that one chart fits a wide page and a phone
without scaling its text. Vertical positions are pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from configs.runtime.formatting import count, fixed, money, month, percent, plural
from training.evaluation.metrics import AUC_WITHIN
from training.reporting.chart_types import (
    Bar,
    BarChart,
    CurveChart,
    DotChart,
    DotRow,
    Estimated,
    FoldChart,
    FoldPart,
    FoldRow,
    Line,
    ReliabilityChart,
    Tick,
)
from training.reporting.report_text import MODELS, OutcomeText, estimated, interval

ROW = 50
"""Height of one chart row in pixels: label above, strip below."""

LABEL_Y, STRIP_Y, AXIS = 14, 28, 38

RELIABILITY_HEIGHT = 260

SHAPES: Mapping[str, str] = {"model": "dot", "health_score": "diamond", "calendar": "square"}

Content = Mapping[str, Any]
"""Part of the content of a report."""


@dataclass(frozen=True)
class Axis:
    """A linear map from values to percentages of the width, clipped to the chart.

    >>> Axis(0.4, 0.9)(0.65), Axis(0.0, 1.0)(1.2)
    ('50.00%', '100.00%')
    """

    low: float
    high: float

    def __call__(self, value: float) -> str:
        """Return the position of a value as CSS percentage."""
        return f"{self.part(value):.2f}%"

    def part(self, value: float) -> float:
        """Return the position of a value as a number from 0 to 100."""
        span = (self.high - self.low) or 1.0
        return min(100.0, max(0.0, 100.0 * (value - self.low) / span))

    def width(self, start: float, end: float) -> str:
        """Return the distance between two values."""
        return f"{self.part(end) - self.part(start):.2f}%"


def tick(axis: Axis, value: float, text: str, note: str = "") -> Tick:
    """Return one tick of an axis; the outermost ticks are aligned to stay inside."""
    place = axis.part(value)
    anchor = "start" if place < 1 else "end" if place > 99 else "middle"
    return {"x": axis(value), "text": text, "note": note, "anchor": anchor}


def tenths(low: float, high: float) -> list[float]:
    """Return the multiples of 0.1 in a range.

    >>> tenths(0.4, 0.7)
    [0.4, 0.5, 0.6, 0.7]
    """
    return [n / 10 for n in range(round(low * 10), round(high * 10) + 1)]


def area_axis(estimates: Sequence[Estimated]) -> Axis:
    """Return an AUC axis that contains all intervals and chance."""
    known = [x for item in estimates for x in item.values() if x is not None]
    low = min([0.4, *(int(x * 10) / 10 for x in known)])
    high = max([0.8, *(-int(-x * 10 - 0.999) / 10 for x in known)])
    return Axis(low, min(1.0, high))


def area_ticks(axis: Axis, mark: float) -> list[Tick]:
    """Return the ticks of an AUC axis, with labels at chance and the threshold."""
    notes = {0.5: "chance", mark: "threshold"}
    return [tick(axis, at, fixed(at, 1), notes.get(at, "")) for at in tenths(axis.low, axis.high)]


def dot_row(
    position: int,
    axis: Axis,
    label: str,
    estimate: Estimated,
    text: str,
    *,
    is_main: bool = False,
) -> DotRow:
    """Return one row of a dot chart: a value with its interval, label above."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    return {
        "label": label,
        "text": text,
        "label_y": position * ROW + LABEL_Y,
        "y": position * ROW + STRIP_Y,
        "x": None if value is None else axis(value),
        "x1": None if low is None else axis(low),
        "x2": None if high is None else axis(high),
        "is_main": is_main,
        "faint": [],
        "others": [],
    }


def model_chart(models: Sequence[Content], folds: Sequence[Content], mark: float) -> DotChart:
    """Return the chart of AUC by model and baseline, with small circles per test period."""
    axis = area_axis(
        [item["auc"] for item in models] + [one for fold in folds for one in _points(fold)]
    )
    rows = []
    for position, item in enumerate(models):
        row = dot_row(
            position,
            axis,
            item["title"],
            item["auc"],
            estimated(item["auc"]),
            is_main=item["name"] == "model",
        )
        values = [fold["models"][item["name"]]["value"] for fold in folds]
        row["faint"] = [axis(value) for value in values if value is not None]
        rows.append(row)
    summary = "; ".join(f"{item['title']} {estimated(item['auc'])}" for item in models)
    return _dots(rows, area_ticks(axis, mark), f"{AUC_WITHIN} with 95 % intervals. {summary}.")


def _points(fold: Content) -> list[dict[str, float | None]]:
    """Return the values of a test period without intervals."""
    return [{"value": item["value"]} for item in fold["models"].values()]


def lead_chart(leads: Sequence[Content], mark: float) -> DotChart | None:
    """Return the chart of AUC by lead time for model, calendar and health score."""
    timed = [item for item in leads if "auc" in item]
    if not timed:
        return None
    shown = [name for name in SHAPES if name in timed[0]["auc"]]
    axis = area_axis([item["auc"][name] for item in timed for name in shown])
    rows = []
    for position, item in enumerate(timed):
        model = item["auc"]["model"]
        row = dot_row(position, axis, lead_words(item), model, estimated(model), is_main=True)
        row["others"] = [
            {"shape": SHAPES[name], "x": axis(value)}
            for name in shown[1:]
            if (value := item["auc"][name]["value"]) is not None
        ]
        rows.append(row)
    summary = "; ".join(f"{row['label']} {row['text']}" for row in rows)
    chart = _dots(
        rows, area_ticks(axis, mark), f"{AUC_WITHIN} of the model by lead time. {summary}."
    )
    chart["legend"] = [{"shape": SHAPES[name], "text": MODELS[name]} for name in shown]
    return chart


def lead_words(item: Content) -> str:
    """Return a lead time as a short label that fits a phone.

    >>> lead_words({"days": 90, "counted_from": "notice deadline"})
    '90 days to notice'
    """
    return f"{item['days']} days to {str(item['counted_from']).removesuffix(' deadline')}"


def lead_days_chart(leads: Sequence[Content], mark: float) -> DotChart | None:
    """Return the chart of AUC by days between the last score and the decision."""
    rows = [
        (
            f"{item['lead_days']} days before ({plural(item['events'], 'event')})",
            item["auc"]["model"],
        )
        for item in leads
        if "auc" in item
    ]
    return _area_chart(rows, mark, f"{AUC_WITHIN} by days before the decision") if rows else None


def quarter_chart(folds: Sequence[Content], mark: float) -> DotChart:
    """Return the chart of AUC by quarter, with intervals."""
    rows = [
        (
            f"{quarter_words(item['quarter'])}, {plural(item['events'], 'event')}",
            item["models"]["model"],
        )
        for item in folds
    ]
    return _area_chart(rows, mark, f"{AUC_WITHIN}, by quarter")


def _area_chart(areas: Sequence[tuple[str, Estimated]], mark: float, title: str) -> DotChart:
    axis = area_axis([estimate for _, estimate in areas])
    rows = [
        dot_row(position, axis, label, estimate, estimated(estimate), is_main=True)
        for position, (label, estimate) in enumerate(areas)
    ]
    summary = "; ".join(f"{row['label']} {row['text']}" for row in rows)
    return _dots(rows, area_ticks(axis, mark), f"{title}. {summary}.")


def quarter_words(quarter: str) -> str:
    """Return a quarter as text.

    >>> quarter_words("2025Q3")
    'Q3 2025'
    """
    return f"{quarter[4:]} {quarter[:4]}"


def tone(band: str, order: Sequence[str]) -> str:
    """Return the colour and shape of a band from any set of bands.

    >>> [tone(name, ("green", "yellow", "red")) for name in ("green", "yellow", "red")]
    ['low', 'elevated', 'high']
    """
    if band not in order or len(order) < 2:
        return "low"
    part = order.index(band) / (len(order) - 1)
    return "high" if part > 0.99 else "low" if part < 0.34 else "elevated"


def own_band_chart(
    table: Content, order: Sequence[str], base_rate: float, outcome: OutcomeText
) -> BarChart:
    """Return the chart of observed rates for any set of bands, riskiest first."""
    return _rate_chart(
        table,
        base_rate,
        outcome,
        lambda band: (tone(band, order), band[:1].upper() + band[1:]),
    )


def part_chart(parts: Sequence[Content]) -> DotChart:
    """Return the chart of AUC by component of a score, in the direction of use."""
    axis = area_axis([item["auc"] for item in parts])
    rows = [
        dot_row(
            position,
            axis,
            item["name"],
            item["auc"],
            estimated(item["auc"]),
            is_main=item["judgement"] == "contributes",
        )
        for position, item in enumerate(parts)
    ]
    summary = "; ".join(f"{row['label']} {row['text']}" for row in rows)
    return _dots(rows, area_ticks(axis, 0.6), f"{AUC_WITHIN} of each component alone. {summary}.")


CURVE_HEIGHT = 200


def curve_chart(curve: Sequence[Mapping[str, float]]) -> CurveChart:
    """Return the decision curve: net benefit by threshold, for the score and for all accounts."""
    across = Axis(0.0, max(item["threshold"] for item in curve))
    tops = [item[name] for item in curve for name in ("score", "all_accounts")]
    top = max([*tops, 1e-9])
    low = max(min([0.0, *tops]), -top)

    def down(value: float) -> float:
        return round(CURVE_HEIGHT * (1.0 - (max(value, low) - low) / ((top - low) or 1.0)), 1)

    def line(name: str) -> list[Line]:
        points = [(across(item["threshold"]), down(item[name])) for item in curve]
        return [
            {"x1": a[0], "y1": a[1], "x2": b[0], "y2": b[1]}
            for a, b in zip(points, points[1:], strict=False)
        ]

    summary = "; ".join(
        f"at {percent(item['threshold'])}: {fixed(item['score'], 1)} compared with "
        f"{fixed(item['all_accounts'], 1)} for all accounts"
        for item in curve
    )
    return {
        "score": line("score"),
        "all_accounts": line("all_accounts"),
        "zero": down(0.0),
        "ticks": [
            tick(across, item["threshold"], percent(item["threshold"])) for item in curve[::2]
        ],
        "top": fixed(top, 1),
        "height": CURVE_HEIGHT,
        "desc": f"Net benefit per 1,000 accounts. {summary}.",
    }


def difference_chart(difference: Estimated, zone: float) -> DotChart:
    """Return the chart of one difference with its interval and the zone of equivalence."""
    reach = max([0.1, *(abs(x) for x in difference.values() if x is not None)])
    reach = -int(-reach * 20 - 0.999) / 20
    axis = Axis(-reach, reach)
    row = dot_row(0, axis, "Model minus health score in use", difference, "", is_main=True)
    ticks = [
        tick(axis, -reach, f"−{fixed(reach)}", "health score better"),
        tick(axis, 0.0, "0", "equal"),
        tick(axis, reach, f"+{fixed(reach)}", "model better"),
    ]
    chart = _dots([row], ticks, f"Difference in {AUC_WITHIN} {estimated(difference, 'signed')}.")
    chart["zones"] = [{"x": axis(-zone), "width": axis.width(-zone, zone)}]
    return chart


def _dots(rows: list[DotRow], ticks: list[Tick], description: str) -> DotChart:
    return {
        "rows": rows,
        "ticks": ticks,
        "zones": [],
        "legend": [],
        "desc": description,
        "axis_y": len(rows) * ROW - 4,
        "height": len(rows) * ROW + AXIS,
    }


def band_title(band: str, outcome: OutcomeText) -> str:
    """Return the title of a band.

    >>> from training.reporting.report_text import OUTCOMES
    >>> band_title("high", OUTCOMES["churn"]), band_title("low", OUTCOMES["expansion"])
    ('High risk', 'Low chance of growth')
    """
    return f"{band.capitalize()} {outcome.chance}"


def band_chart(table: Content, base_rate: float, outcome: OutcomeText) -> BarChart:
    """Return the chart of observed rates by band with Wilson intervals, and the overall rate."""
    return _rate_chart(table, base_rate, outcome, lambda band: (band, band_title(band, outcome)))


def _rate_chart(
    table: Content,
    base_rate: float,
    outcome: OutcomeText,
    look: Callable[[str], tuple[str, str]],
) -> BarChart:
    """Return the chart of observed rates by band; `look` gives the tone and title of a band."""
    rows = list(reversed(table["rows"]))
    axis = Axis(0.0, rate_ceiling([item["high"] for item in rows] + [base_rate]))
    bars: list[Bar] = [
        {
            **bar_row(
                position,
                axis,
                item["rate"],
                *look(item["band"]),
                f"{percent(item['rate'])} of {count(item['n'])} ({interval(item, 'percent')})",
            ),
            "x1": axis(item["low"]),
            "x2": axis(item["high"]),
        }
        for position, item in enumerate(rows)
    ]
    summary = "; ".join(f"{bar['label']} {bar['text']}" for bar in bars)
    ticks = [
        tick(axis, 0.0, "0"),
        tick(axis, base_rate, "", f"all: {percent(base_rate)}"),
        tick(axis, axis.high, percent(axis.high)),
    ]
    about = f"Share of accounts that {outcome.did}, by band. {summary}."
    return _bars(bars, ticks, about, [axis(base_rate)])


def value_chart(bands: Sequence[Content], currency: str, outcome: OutcomeText) -> BarChart:
    """Return the chart of ARR by band."""
    axis = Axis(0.0, max([item["arr"] for item in bands] + [1.0]))
    bars = [
        bar_row(
            position,
            axis,
            item["arr"],
            item["band"],
            f"{band_title(item['band'], outcome)}, {plural(item['accounts'], 'account')}",
            f"{money(item['arr'], currency)} ({percent(item['arr_share'])})",
        )
        for position, item in enumerate(bands)
    ]
    summary = "; ".join(f"{bar['label']} {bar['text']}" for bar in bars)
    return _bars(bars, [], f"ARR by band. {summary}.")


def bar_row(
    position: int, axis: Axis, value: float, band: str, label: str, text: str
) -> Bar:  # fmt: skip
    """Return one bar with its label above."""
    return {
        "band": band,
        "label": label,
        "text": text,
        "label_y": position * ROW + LABEL_Y,
        "y": position * ROW + STRIP_Y,
        "width": axis(value),
        "x1": None,
        "x2": None,
    }


def _bars(
    bars: list[Bar], ticks: list[Tick], description: str, marks: list[str] | None = None
) -> BarChart:
    return {
        "bars": bars,
        "ticks": ticks,
        "marks": marks or [],
        "desc": description,
        "axis_y": len(bars) * ROW - 4,
        "height": len(bars) * ROW + (AXIS if ticks else -8),
    }


def rate_ceiling(rates: Sequence[float]) -> float:
    """Return the smallest round rate at or above all rates.

    >>> rate_ceiling([0.17]), rate_ceiling([0.031]), rate_ceiling([])
    (0.2, 0.04, 1.0)
    """
    highest = max(rates, default=1.0)
    marks = (0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8)
    return next((mark for mark in marks if highest <= mark), 1.0)


def reliability_chart(bins: Sequence[Content]) -> ReliabilityChart:
    """Return the reliability chart: predicted and observed rates with intervals, by group."""
    top = rate_ceiling([x for item in bins for x in (item["expected"], item["high"])])
    axis = Axis(0.0, top)
    sizes = sorted({item["n"] for item in bins})

    def down(rate: float) -> float:
        return round(RELIABILITY_HEIGHT * (1.0 - min(1.0, rate / top)), 1)

    marks = [top * step / 4 for step in range(5)]
    return {
        "points": [
            {
                "x": axis(item["expected"]),
                "y": down(item["observed"]),
                "y1": down(item["low"]),
                "y2": down(item["high"]),
                "text": f"predicted {percent(item['expected'])}, "
                f"observed {percent(item['observed'])}, "
                f"{count(item['events'])} of {count(item['n'])}",
            }
            for item in bins
        ],
        "grid": [{"y": down(mark), "text": percent(mark)} for mark in marks],
        "ticks": [tick(axis, mark, percent(mark)) for mark in marks],
        "height": RELIABILITY_HEIGHT,
        "sizes": count(sizes[0]) if len(sizes) == 1 else f"{count(sizes[0])} to {count(sizes[-1])}",
        "desc": "Predicted and observed rates. "
        + "; ".join(
            f"predicted {percent(item['expected'])}, observed {percent(item['observed'])} "
            f"of {count(item['n'])}"
            for item in bins
        ),
    }


def fold_chart(folds: Sequence[Content]) -> FoldChart:
    """Return the timeline of each fold: training, label window and test."""
    spans = [{key: _days(fold[key]) for key in FOLD_DAYS} for fold in folds]
    axis = Axis(
        min(span["train_from"] for span in spans), max(span["test_until"] for span in spans)
    )
    rows: list[FoldRow] = [
        {
            "label": f"Test {fold['fold']}: {month(fold['cutoff'])} to {month(fold['test_until'])}",
            "text": f"{plural(fold['n_headline_events'], 'event')} of {count(fold['n_headline'])}",
            "label_y": position * ROW + LABEL_Y,
            "y": position * ROW + STRIP_Y,
            "parts": [
                _part(axis, "train", span["train_from"], span["train_to"]),
                _part(axis, "wait", span["train_to"], span["cutoff"]),
                _part(axis, "test", span["cutoff"], span["test_until"]),
            ],
        }
        for position, (fold, span) in enumerate(zip(folds, spans, strict=True))
    ]
    first, last = folds[0]["train_from"], folds[-1]["test_until"]
    return {
        "rows": rows,
        "ticks": [
            tick(axis, axis.low, month(first)),
            tick(axis, axis.high, month(last)),
        ],
        "axis_y": len(rows) * ROW - 4,
        "height": len(rows) * ROW + AXIS - 12,
        "desc": "; ".join(f"{row['label']}: {row['text']}" for row in rows),
    }


FOLD_DAYS = ("train_from", "train_to", "cutoff", "test_until")


def _part(axis: Axis, kind: str, start: float, end: float) -> FoldPart:
    return {"kind": kind, "x": axis(start), "width": axis.width(start, max(start, end))}


def _days(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() / 86_400.0
