"""Portfolio: ARR and risk by group and family of accounts, with a map of risk and ARR."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends
from starlette.responses import Response

from serving.online.current_state import Live
from serving.online.server_state import CurrentBook
from serving.pages.common import Book, PageRouter, as_csv, as_json, common, csv_of
from serving.pages.portfolio.sums import (
    DIMENSIONS,
    FAMILIES,
    READ,
    Member,
    Summary,
    growth_until,
    member_of,
    numbers,
    summary,
)
from serving.pages.templating import page

COLUMNS = (
    "dimension",
    "key",
    "name",
    "n",
    "n_scored",
    "n_high",
    "arr",
    "arr_scored",
    "arr_high",
    "lost",
    "rate",
    "n_growth",
    "n_closed",
    "lost_91d",
    "lost_91d_on",
    "lost_year",
    "lost_year_on",
    "lost_until",
    "rate_91d",
)
"""Columns of the CSV version."""

MAP_POINTS = 400
MAP_WIDTH, MAP_HEIGHT = 720, 320
MAP_LEFT, MAP_BOTTOM = 64, 32
RISK_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Limits of the risk columns of the table below the map."""


class MapPoint(Member):
    """Mark of one account on the map."""

    x: float
    y: float


class RiskMap(TypedDict):
    """Map of risk and ARR: marks, ticks and size of the drawing."""

    points: list[MapPoint]
    n_known: int
    x_ticks: list[tuple[float, float]]
    y_ticks: list[tuple[float, float]]
    width: int
    height: int
    left: int
    floor: int


class MapCell(TypedDict):
    """Accounts of one decade of ARR and one range of risk."""

    n: int
    arr: float


MapLine = TypedDict("MapLine", {"from": float, "to": float, "cells": list[MapCell]})
"""Accounts of one decade of ARR by range of risk."""


router = PageRouter()


def portfolio_summary(book: Book) -> Summary:
    """Return the sums of the visible accounts."""
    return summary(book.table.select(READ))


Found = Annotated[Summary, Depends(portfolio_summary)]


@router.page("/portfolio")
def portfolio_page(live: Live, book: Book, found: Found) -> Response:
    """Return the page of the portfolio."""
    return page("portfolio.html", **common(live, "portfolio"), **view(book, found))


@router.get("/portfolio.json")
def portfolio_json(book: Book, found: Found) -> Response:
    """Return the sums as JSON."""
    head = {
        "book_id": book.run.run_id,
        "release_id": book.run.release_id,
        "as_of": book.run.as_of,
    }
    return as_json(head | as_dict(found))


@router.get("/portfolio.csv")
def portfolio_csv(book: Book, found: Found) -> Response:
    """Return the sums as CSV."""
    return as_csv(f"portfolio-{book.run.run_id}", csv_of(COLUMNS, lines(found)))


def view(book: CurrentBook, found: Summary) -> dict[str, Any]:
    """Return the template values of the page."""
    table = book.table.select(READ)
    return {
        "run": book.run,
        "growth_until": growth_until(table),
        "map": risk_map(table),
        "cells": map_cells(table),
        "risk_edges": RISK_EDGES,
        "top_rates": {
            name: max((group.rate_91d or 0.0 for group in parts), default=0.0) or 1.0
            for name, parts in found.groups.items()
        },
        "dimensions": DIMENSIONS,
        "quarters": {
            group.key: days_of_quarter(group.key)
            for group in found.groups.get("renewal_quarter", ())
            if group.key
        },
        "most_families": FAMILIES,
        **vars(found),
    }


def as_dict(found: Summary) -> dict[str, Any]:
    """Return a summary as plain JSON."""
    return {
        "total": found.total.as_dict(),
        "groups": {
            name: [group.as_dict() for group in parts] for name, parts in found.groups.items()
        },
        "families": found.families,
    }


def lines(found: Summary) -> Iterator[dict[str, Any]]:
    """Return a summary as flat rows for CSV: the total, each group, each family."""
    yield {"dimension": "total", **found.total.as_dict()}
    for name, parts in found.groups.items():
        yield from ({"dimension": name, **group.as_dict()} for group in parts)
    for family in found.families:
        sums = {name: value for name, value in family.items() if name != "riskiest"}
        yield {"dimension": "family", **sums}


def days_of_quarter(name: str) -> tuple[str, str]:
    """Return the first and last day of a quarter, ISO 8601.

    >>> days_of_quarter("2026 Q1"), days_of_quarter("2026 Q4")
    (('2026-01-01', '2026-03-31'), ('2026-10-01', '2026-12-31'))
    """
    year, number = int(name[:4]), int(name[-1])
    after = date(year + number // 4, number * 3 % 12 + 1, 1)
    return date(year, 3 * number - 2, 1).isoformat(), (after - timedelta(days=1)).isoformat()


def _with_risk_and_arr(table: pa.Table) -> pa.Table:
    return table.filter(pc.and_(pc.is_valid(table["churn_risk"]), pc.greater(table["arr"], 0)))


def risk_map(table: pa.Table) -> RiskMap:
    """Return the accounts with the highest expected loss as marks: x is risk, y is ARR (log)."""
    known = _with_risk_and_arr(table)
    rows = known.sort_by([("expected_arr_lost", "descending")]).slice(0, MAP_POINTS).to_pylist()
    right = _axis_end([row["churn_risk"] for row in rows])
    bottom, top = _decades([row["arr"] for row in rows])
    return {
        "points": [
            {
                **member_of(row),
                "x": round(_across(row["churn_risk"], right), 1),
                "y": round(_upwards(row["arr"], bottom, top), 1),
            }
            for row in reversed(rows)  # the highest expected loss is drawn last, on top
        ],
        "n_known": len(known),
        "x_ticks": [(share, round(_across(share, right), 1)) for share in _ticks(right)],
        "y_ticks": [
            (10.0**power, round(_upwards(10.0**power, bottom, top), 1))
            for power in range(bottom, top + 1)
        ],
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
        "left": MAP_LEFT,
        "floor": MAP_HEIGHT - MAP_BOTTOM,
    }


def map_cells(table: pa.Table) -> list[MapLine]:
    """Return the table below the map: one row per decade of ARR, one cell per range of risk.

    Cells contain the number of accounts and their ARR; every account with risk and ARR is in
    exactly one.
    """
    known = _with_risk_and_arr(table)
    risks, arr = numbers(known["churn_risk"]), numbers(known["arr"])
    powers = np.floor(np.log10(arr)).astype(int)
    columns = np.searchsorted(RISK_EDGES[1:-1], risks, side="right")
    width = len(RISK_EDGES) - 1
    found: list[MapLine] = []
    for power in sorted(set(powers.tolist()), reverse=True):
        here = powers == power
        counts = np.bincount(columns[here], minlength=width)
        money = np.bincount(columns[here], arr[here], width)
        cells: list[MapCell] = [{"n": int(counts[i]), "arr": float(money[i])} for i in range(width)]
        found.append({"from": 10.0**power, "to": 10.0 ** (power + 1), "cells": cells})
    return found


def _axis_end(risks: Sequence[float]) -> float:
    highest = max(risks, default=0.0)
    return next((end for end in (0.1, 0.25, 0.5, 0.75) if highest <= end), 1.0)


def _ticks(right: float) -> list[float]:
    return [right * i / 5 for i in range(6)]


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten around all values.

    >>> _decades([1200.0, 84_000.0]), _decades([])
    ((3, 5), (3, 4))
    """
    if not values:
        return 3, 4
    bottom = math.floor(math.log10(min(values)))
    return bottom, max(math.ceil(math.log10(max(values))), bottom + 1)


def _across(share: float, right: float) -> float:
    return MAP_LEFT + (MAP_WIDTH - MAP_LEFT - 16) * share / right


def _upwards(arr: float, bottom: int, top: int) -> float:
    height = MAP_HEIGHT - MAP_BOTTOM - 16
    return 16 + height * (1 - (math.log10(arr) - bottom) / (top - bottom))
