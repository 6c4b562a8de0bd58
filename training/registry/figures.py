"""Figures as SVG text: for the tracking server, and the same ones for reports.

Built as XML trees, so that any text is escaped. Each stands alone: no scripts, no external
references; a title and a description for screen readers; blue and orange, which colour-blind
people tell apart, never colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#8a8f98", "#1f2328"
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
_COUNTS = (
    ("n_train", "training rows"),
    ("n_headline", "tested accounts"),
    ("n_headline_events", "events"),
)
_NAMESPACE = "http://www.w3.org/2000/svg"


def reliability_svg(bins: Sequence[Mapping[str, Any]], *, title: str = "Reliability") -> str:
    """Draw observed against predicted rates.

    Parameters
    ----------
    bins : sequence of mapping
        Per bin: ``expected`` and ``observed`` in [0, 1], ``n`` rows, ``events``, and the
        interval ``low``, ``high`` of the observed rate.
    title : str
        Heading.

    Returns
    -------
    str
        SVG of 480 × 480 units. Both axes end at the same round rate, so that scores which mean
        what they say lie on the diagonal.
    """
    top = _ceiling([float(item[key]) for item in bins for key in ("expected", "high")])
    n_rows, n_events = (sum(int(item[key]) for item in bins) for key in ("n", "events"))
    about = f"{len(bins)} bins of {n_rows:,} rows with {n_events:,} events. " + "; ".join(
        f"predicted {item['expected']:.1%}, observed {item['observed']:.1%} of {item['n']:,}"
        for item in bins
    )
    root = _root(480, 480, title, about)
    plot = _Scale(64, 448, 0.0, top), _Scale(416, 56, 0.0, top)
    _rate_axes(root, plot, top)
    for item in bins:
        _reliability_bin(root, plot, item)
    _text(root, 256, 464, "predicted rate", anchor="middle")
    _text(root, 16, 40, "observed rate, with 95 % interval")
    return ET.tostring(root, encoding="unicode")


def folds_svg(folds: Sequence[Mapping[str, Any]], *, title: str = "Folds") -> str:
    """Draw what each fold was trained and tested on, along time.

    Parameters
    ----------
    folds : sequence of mapping
        Per fold, oldest first, the columns of `training.data.splits.describe`: ``cutoff`` and
        ``test_until`` (instants or ISO dates); optionally ``train_from``, ``fold``, ``n_train``,
        ``n_headline``, ``n_headline_events``.
    title : str
        Heading.

    Returns
    -------
    str
        SVG, 720 units wide, one line per fold: training to the cut-off filled in grey, the test
        period after it in blue.
    """
    spans = [_span(item) for item in folds]
    moments = [moment for span in spans for moment in span]
    first, last = (min(moments), max(moments)) if moments else (0.0, 1.0)
    height = 88 + 32 * len(folds)
    about = "; ".join(_fold_words(item, number) for number, item in enumerate(folds, start=1))
    root = _root(720, height, title, about or "no folds")
    across = _Scale(72, 560, first, last)
    for number, (item, span) in enumerate(zip(folds, spans, strict=True), start=1):
        _fold_line(root, across, 48 + 32 * number, item, span, number)
    if moments:
        for moment, anchor in ((first, "start"), (last, "end")):
            _text(root, across(moment), height - 12, _day(moment), anchor=anchor, fill=GREY)
    _legend(root)
    return ET.tostring(root, encoding="unicode")


def aligned_svg(rows: Sequence[Mapping[str, Any]], *, title: str = "Before the decision") -> str:
    """Draw how features of accounts that left came apart from those of accounts that stayed.

    Parameters
    ----------
    rows : sequence of mapping
        Per feature and step, in the order in which they are drawn (rows of
        `training.checks.event_study.EventStudy.as_dict`): ``feature``, ``from_days`` before the
        decision, and ``gap`` to those who stayed at the same moments, in their standard deviations,
        with its standard ``error``.
    title : str
        Heading.

    Returns
    -------
    str
        SVG, 720 units wide, one line per feature on one scale; grey is no difference.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(str(row["feature"]), []).append(row)
    shown = list(lines)
    about = "; ".join(
        f"{name}: "
        + ", ".join(f"{item['gap']:+.2f} from {item['from_days']} days" for item in lines[name])
        for name in shown
    )
    root = _root(720, 96 + 40 * len(shown), title, about or "no decision is dated")
    days = [int(item["from_days"]) for item in lines[shown[0]]] if shown else []
    across = _Scale(280, 600, -float(max(days, default=1)), -float(min(days, default=0)))
    widest = max([1.0, *(abs(item["gap"]) for name in shown for item in lines[name])])
    for place, name in enumerate(shown):
        _aligned_line(root, across, 88 + 40 * place, name, lines[name], widest)
    for day in days:
        _text(root, across(-day), 56, f"{day}", anchor="middle", fill=GREY)
    if shown:
        _text(root, 248, 56, "days before", anchor="end", fill=GREY)
        _text(root, 704, 56, "sd at last", anchor="end", fill=GREY)
    return ET.tostring(root, encoding="unicode")


class _Scale:
    """A linear map from values to units of the drawing."""

    def __init__(self, start: float, end: float, low: float, high: float) -> None:
        self.start, self.end, self.low = start, end, low
        self.span = (high - low) or 1.0

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / self.span


def _root(width: int, height: int, title: str, about: str) -> ET.Element:
    root = ET.Element(
        "svg",
        {
            "xmlns": _NAMESPACE,
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "aria-label": title,
            "font-family": FONT,
            "font-size": "12",
        },
    )
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "desc").text = about
    _shape(root, "rect", width="100%", height="100%", fill="#ffffff")
    _text(root, 16, 22, title, fill=INK, **{"font-weight": "600", "font-size": "14"})
    return root


def _shape(parent: ET.Element, tag: str, **attributes: float | str) -> ET.Element:
    plain = {
        name.replace("_", "-"): f"{value:.2f}" if isinstance(value, float) else str(value)
        for name, value in attributes.items()
    }
    return ET.SubElement(parent, tag, plain)


def _text(
    parent: ET.Element,
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    **attributes: str,
) -> None:
    element = _shape(parent, "text", x=x, y=y, fill=fill, **{"text-anchor": anchor}, **attributes)
    element.text = words


def _rate_axes(root: ET.Element, plot: tuple[_Scale, _Scale], top: float) -> None:
    across, up = plot
    for step in range(5):
        rate = top * step / 4
        _shape(
            root, "line", x1=across.start, x2=across.end, y1=up(rate), y2=up(rate), stroke="#e6e8eb"
        )
        _text(root, across.start - 8, up(rate) + 4, f"{rate:.1%}", anchor="end", fill=GREY)
        _text(root, across(rate), up.start + 20, f"{rate:.1%}", anchor="middle", fill=GREY)
    _shape(
        root,
        "line",
        x1=across(0.0),
        y1=up(0.0),
        x2=across(top),
        y2=up(top),
        stroke=GREY,
        stroke_dasharray="4 4",
    )


def _reliability_bin(
    root: ET.Element, plot: tuple[_Scale, _Scale], item: Mapping[str, Any]
) -> None:
    x, up = plot[0](float(item["expected"])), plot[1]
    low, observed, high = (up(float(item[key])) for key in ("low", "observed", "high"))
    _shape(root, "line", x1=x, x2=x, y1=low, y2=high, stroke=BLUE, stroke_width="1.5")
    dot = _shape(root, "circle", cx=x, cy=observed, r="4", fill=BLUE)
    ET.SubElement(dot, "title").text = (
        f"predicted {item['expected']:.1%}, observed {item['observed']:.1%} "
        f"({item['events']:,} of {item['n']:,})"
    )


def _ceiling(rates: Sequence[float]) -> float:
    """Return the smallest round rate that holds all.

    >>> _ceiling([0.03, 0.17]), _ceiling([0.8]), _ceiling([])
    (0.2, 1.0, 1.0)
    """
    highest = max(rates, default=1.0)
    return next((mark for mark in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6) if highest <= mark), 1.0)


def _span(item: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return start of training, cut-off and end of the test in days since 1970."""
    cutoff, until = _days(item["cutoff"]), _days(item["test_until"])
    start = _days(item["train_from"]) if item.get("train_from") is not None else cutoff
    return start, cutoff, until


def _days(value: Any) -> float:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(moment, datetime):
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return zoned.timestamp() / 86_400
    return float((moment - date(1970, 1, 1)).days)


def _day(days: float) -> str:
    return datetime.fromtimestamp(days * 86_400, UTC).date().isoformat()


def _fold_words(item: Mapping[str, Any], number: int) -> str:
    _, cutoff, until = _span(item)
    counts = [f"{int(item[key]):,} {word}" for key, word in _COUNTS if item.get(key) is not None]
    dates = f"fold {item.get('fold', number)}: test {_day(cutoff)} to {_day(until)}"
    return f"{dates} ({', '.join(counts)})" if counts else dates


def _fold_line(
    root: ET.Element,
    across: _Scale,
    y: float,
    item: Mapping[str, Any],
    span: tuple[float, float, float],
    number: int,
) -> None:
    start, cutoff, until = (across(moment) for moment in span)
    _text(root, 16, y + 4, f"fold {item.get('fold', number)}")
    for left, right, fill in ((start, cutoff, "#c9cdd3"), (cutoff, until, BLUE)):
        if right > left:
            bar = _shape(root, "rect", x=left, y=y - 8, width=right - left, height="16", fill=fill)
            ET.SubElement(bar, "title").text = _fold_words(item, number)
    _shape(root, "line", x1=cutoff, x2=cutoff, y1=y - 12, y2=y + 12, stroke=ORANGE)
    if item.get("n_headline_events") is not None:
        _text(root, 704, y + 4, f"{int(item['n_headline_events']):,} events", anchor="end")


def _aligned_line(
    root: ET.Element,
    across: _Scale,
    y: float,
    name: str,
    steps: Sequence[Mapping[str, Any]],
    widest: float,
) -> None:
    """Draw one feature around its own line of no difference, 16 units high either way."""
    _text(root, 264, y + 4, name, anchor="end")
    _shape(root, "line", x1=across.start, x2=across.end, y1=y, y2=y, stroke="#c9cdd3")
    at = [(across(-item["from_days"]), y - 16.0 * item["gap"] / widest) for item in steps]
    points = " ".join(f"{x:.2f},{up:.2f}" for x, up in at)
    _shape(root, "polyline", points=points, fill="none", stroke=BLUE, stroke_width="1.5")
    for (x, up), item in zip(at, steps, strict=True):
        dot = _shape(root, "circle", cx=x, cy=up, r="3", fill=BLUE)
        ET.SubElement(dot, "title").text = (
            f"{name}, from {item['from_days']} days before: {item['gap']:+.2f} "
            f"± {1.96 * item['error']:.2f} standard deviations"
        )
    _text(root, 704, y + 4, f"{steps[-1]['gap']:+.2f}", anchor="end")


def _legend(root: ET.Element) -> None:
    marks = ((72, "#c9cdd3", "labels known by the cut-off"), (264, BLUE, "test period"))
    for x, fill, words in marks:
        _shape(root, "rect", x=x, y=36, width=12, height=12, fill=fill)
        _text(root, x + 18, 46, words, fill=GREY)
    _shape(root, "line", x1=366, x2=366, y1=34, y2=50, stroke=ORANGE)
    _text(root, 374, 46, "cut-off", fill=GREY)
