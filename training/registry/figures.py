"""Figures of the model card and the tracking server, drawn by matplotlib as deterministic SVG.

Equal inputs give equal bytes. Text stays text, the title is an SVG title, and colours (blue and
orange, distinct for colour-blind readers) are never the only difference. matplotlib is imported on
use, without pyplot and its global state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from training.evaluation.parts import FoldJson, ReliabilityBin
from training.model.manifest_parts import EventStudyRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#8a8f98", "#1f2328"
TRAINING_GREY = "#c9cdd3"

STYLE = {
    "svg.hashsalt": "bellwether",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "xtick.color": GREY,
    "ytick.color": INK,
}


def reliability_svg(bins: Sequence[ReliabilityBin], *, title: str = "Reliability") -> str:
    """Return a reliability diagram: observed against predicted rates with 95 % intervals.

    Both axes have the same range, so that calibrated scores lie on the diagonal.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.add_subplot(
            title=title, xlabel="predicted rate", ylabel="observed rate, with 95 % interval"
        )
        top = axis_limit([item[key] for item in bins for key in ("expected", "high")])
        axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1)
        observed = [item["observed"] for item in bins]
        # An interval of a rate of 0 or 1 may end a rounding error beyond it.
        below = [max(0.0, item["observed"] - item["low"]) for item in bins]
        above = [max(0.0, item["high"] - item["observed"]) for item in bins]
        expected = [item["expected"] for item in bins]
        axes.errorbar(expected, observed, yerr=[below, above], fmt="o", color=BLUE, markersize=5)
        axes.set(xlim=(0, top), ylim=(0, top))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(color="#e6e8eb", linewidth=0.8)
        axes.set_axisbelow(True)
        return _svg(figure, f"{title}. {_reliability_words(bins)}")


def folds_svg(folds: Sequence[FoldJson], *, title: str = "Folds") -> str:
    """Return the training period (grey) and the test period (blue) of each fold over time.

    `folds` are in order of time; ``train_from`` and the counts are optional.
    """
    import matplotlib
    from matplotlib.dates import AutoDateLocator
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 1.2 + 0.35 * len(folds)), layout="constrained")
        axes = figure.add_subplot(title=title)
        for place, item in enumerate(folds):
            _draw_fold(axes, place, item)
        axes.set_yticks(range(len(folds)), [f"fold {item['fold']}" for item in folds])
        axes.invert_yaxis()
        if folds:
            axes.xaxis_date()
            axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.25), ncols=3, frameon=False)
        return _svg(figure, f"{title}. {'; '.join(map(_fold_words, folds))}")


def event_study_svg(rows: Sequence[EventStudyRow], *, title: str = "Before the decision") -> str:
    """Return the difference between accounts with and without the event before the decision.

    One panel per feature on a common scale, with 95 % intervals; grey is no difference.
    """
    import matplotlib
    from matplotlib.figure import Figure

    steps: dict[str, list[EventStudyRow]] = {}
    for row in rows:
        steps.setdefault(row.feature, []).append(row)
    widest = max([1.0, *(abs(row.gap) for row in rows)])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 1.0 + 0.5 * len(steps)), layout="constrained")
        panels = figure.subplots(max(len(steps), 1), sharex=True, squeeze=False)[:, 0]
        panels[0].set_title(title)
        for axes, (name, items) in zip(panels, steps.items(), strict=False):
            _draw_feature(axes, name, items, 1.2 * widest)
        panels[-1].set_xlabel("days before the decision")
        if rows:
            panels[-1].set_xticks([-item.from_days for item in next(iter(steps.values()))])
            panels[-1].xaxis.set_major_formatter(lambda value, _: f"{-value:.0f}")
        return _svg(figure, f"{title}. {_event_study_words(steps)}")


def axis_limit(rates: Sequence[float]) -> float:
    """Return the smallest round rate that is at least as large as all rates.

    >>> axis_limit([0.03, 0.17]), axis_limit([0.8]), axis_limit([])
    (0.2, 1.0, 1.0)
    """
    highest = max(rates, default=1.0)
    return next((limit for limit in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6) if highest <= limit), 1.0)


def _draw_fold(axes: Axes, place: int, item: FoldJson) -> None:
    from matplotlib.dates import date2num

    cutoff, until = date2num(_instant(item["cutoff"])), date2num(_instant(item["test_until"]))
    start = date2num(_instant(item["train_from"])) if "train_from" in item else cutoff
    is_first = place == 0
    labels = ("labels known by the cut-off", "test period", "cut-off") if is_first else ("",) * 3
    axes.barh(place, cutoff - start, 0.5, start, color=TRAINING_GREY, label=labels[0])
    axes.barh(place, until - cutoff, 0.5, cutoff, color=BLUE, label=labels[1])
    axes.plot([cutoff] * 2, [place - 0.4, place + 0.4], color=ORANGE, label=labels[2])
    if "n_headline_events" in item:
        axes.annotate(
            f"{item['n_headline_events']:,} events",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
        )


def _draw_feature(axes: Axes, name: str, items: Sequence[EventStudyRow], limit: float) -> None:
    days = [-item.from_days for item in items]
    axes.axhline(0, color=TRAINING_GREY, linewidth=1)
    axes.errorbar(
        days,
        [item.gap for item in items],
        yerr=[1.96 * item.error for item in items],
        color=BLUE,
        marker="o",
        markersize=3,
        linewidth=1.5,
        elinewidth=0.8,
    )
    axes.set(ylim=(-limit, limit), yticks=[])
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    axes.annotate(f"{items[-1].gap:+.2f} sd", (1.01, 0.5), xycoords="axes fraction", va="center")


def _svg(figure: Figure, title: str) -> str:
    """Return a figure as an SVG element without date and version."""
    with io.StringIO() as text:
        figure.savefig(text, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
        svg = text.getvalue()
    return svg[svg.index("<svg") :]  # without the XML prolog, to embed it in HTML


def _instant(value: str) -> datetime:
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _reliability_words(bins: Sequence[ReliabilityBin]) -> str:
    n_rows, n_events = sum(item["n"] for item in bins), sum(item["events"] for item in bins)
    return f"{len(bins)} bins of {n_rows:,} rows with {n_events:,} events. " + "; ".join(
        f"predicted {item['expected']:.1%}, observed {item['observed']:.1%} of {item['n']:,}"
        for item in bins
    )


def _fold_words(item: FoldJson) -> str:
    words = f"fold {item['fold']}: test {item['cutoff'][:10]} to {item['test_until'][:10]}"
    if "n_headline_events" not in item:
        return words
    return (
        f"{words} ({item['n_train']:,} training rows, {item['n_headline']:,} tested accounts, "
        f"{item['n_headline_events']:,} events)"
    )


def _event_study_words(steps: dict[str, list[EventStudyRow]]) -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{item.gap:+.2f} from {item.from_days} days" for item in items)
        for name, items in steps.items()
    )
