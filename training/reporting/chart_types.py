"""Types of chart geometry: what the chart functions return and the templates draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

Estimated = Mapping[str, float | None]
"""An estimate: value, low and high, None where unknown."""


class Tick(TypedDict):
    """One tick of an axis."""

    x: str
    text: str
    note: str
    anchor: str


class Symbol(TypedDict):
    """A further value in a row of dots."""

    shape: str
    x: str


class LegendItem(TypedDict):
    """One entry of a legend."""

    shape: str
    text: str


class Zone(TypedDict):
    """A shaded range of an axis."""

    x: str
    width: str


class DotRow(TypedDict):
    """One row of a dot chart: a value with its interval; positions are None where unknown."""

    label: str
    text: str
    label_y: int
    y: int
    x: str | None
    x1: str | None
    x2: str | None
    is_main: bool
    faint: list[str]
    others: list[Symbol]


class DotChart(TypedDict):
    """Rows of dots over one axis."""

    rows: list[DotRow]
    ticks: list[Tick]
    zones: list[Zone]
    legend: list[LegendItem]
    desc: str
    axis_y: int
    height: int


class Bar(TypedDict):
    """One bar with an optional interval."""

    band: str
    label: str
    text: str
    label_y: int
    y: int
    width: str
    x1: str | None
    x2: str | None


class BarChart(TypedDict):
    """Bars over one axis, with reference lines."""

    bars: list[Bar]
    ticks: list[Tick]
    marks: list[str]
    desc: str
    axis_y: int
    height: int


class Line(TypedDict):
    """One segment of a line."""

    x1: str
    y1: float
    x2: str
    y2: float


class CurveChart(TypedDict):
    """Decision curve of a score and of acting on all accounts."""

    score: list[Line]
    all_accounts: list[Line]
    zero: float
    ticks: list[Tick]
    top: str
    height: int
    desc: str


class ReliabilityPoint(TypedDict):
    """One group of rows in a reliability chart."""

    x: str
    y: float
    y1: float
    y2: float
    text: str


class GridLine(TypedDict):
    """One horizontal grid line."""

    y: float
    text: str


class ReliabilityChart(TypedDict):
    """Observed over predicted rates."""

    points: list[ReliabilityPoint]
    grid: list[GridLine]
    ticks: list[Tick]
    height: int
    sizes: str
    desc: str


class FoldPart(TypedDict):
    """Training, label window or test of one fold."""

    kind: str
    x: str
    width: str


class FoldRow(TypedDict):
    """One fold on the timeline."""

    label: str
    text: str
    label_y: int
    y: int
    parts: list[FoldPart]


class FoldChart(TypedDict):
    """Timeline of all folds."""

    rows: list[FoldRow]
    ticks: list[Tick]
    axis_y: int
    height: int
    desc: str
