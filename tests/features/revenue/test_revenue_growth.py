"""Kinds of growth: golden cases by hand, and the truth of the simulated company."""

from __future__ import annotations

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from features.days import day_index
from features.revenue.revenue_changes import revenue_changes
from features.revenue.revenue_growth import allowances, kinds_of_rows
from features.revenue.terms import read_with_hindsight
from features.simulator import simulate
from features.tables.daily_tables import daily_schema, to_daily
from features.tables.source_tables import TABLES

FIRST = {"product": "core", "seats": 10.0, "plan": "basic", "arr": 1000.0}
CHANGES = {
    "seats": {"seats": 14.0, "arr": 1400.0},
    "tier": {"plan": "plus", "arr": 1300.0},
    # More seats and a dearer plan: 300 of 500 come from the seats.
    "seats and tier": {"seats": 13.0, "plan": "plus", "arr": 1500.0},
    "tier and seats": {"seats": 11.0, "plan": "plus", "arr": 1500.0},
    "dearer only": {"arr": 1300.0},
    "more units": {"arr": 1300.0},
    "over the allowance": {"arr": 1300.0},
    "signed uplift": {"arr": 1050.0},
}
EXPECTED = {
    "seats": "seats",
    "tier": "tier",
    "seats and tier": "seats",
    "tier and seats": "tier",
    "dearer only": "unknown",
    "more units": "usage",
    "over the allowance": "usage",
    "signed uplift": None,
    "another product": "product",
    "the same product again": "seats",
    "no product told": "unknown",
}


def _terms() -> list[dict[str, object]]:
    rows = []
    for account, change in CHANGES.items():
        reason = "renewed" if account == "signed uplift" else "changed"
        uplift = 0.05 if account == "signed uplift" else 0.0
        ends = {"ended_day": 200, "end_reason": reason, "escalator": uplift}
        base = {"entity_id": account, "subscription_id": "s", "currency_rate": 1.0}
        rows.append(base | FIRST | {"day": 0} | ends)
        rows.append(base | FIRST | change | {"day": 200})
    others = {"another product": "more", "the same product again": "core", "no product told": None}
    for account, product in others.items():
        base = {"entity_id": account, "currency_rate": 1.0} | FIRST
        rows.append(base | {"subscription_id": "s", "day": 0})
        rows.append(base | {"subscription_id": "t", "day": 200, "product": product})
    return rows


def _units() -> list[dict[str, object]]:
    states = {
        "more units": [(190, 100.0, 90.0), (220, 130.0, 90.0)],
        "over the allowance": [(190, 100.0, 120.0), (220, 100.0, 120.0)],
        "dearer only": [(190, 100.0, 90.0), (220, 100.0, 95.0)],
        # Long after the terms began, a new allowance tells nothing of them.
        "no product told": [(190, 100.0, 90.0), (400, 900.0, 90.0)],
    }
    return [
        {"entity_id": who, "product": "core", "day": day, "known_day": day, "limit": limit,
         "used": used}
        for who, rows in states.items()
        for day, limit, used in rows
    ]  # fmt: skip


def _table(schema: dict[str, str], rows: list[dict[str, object]]) -> ibis.Table:
    columns = {name: [row.get(name) for row in rows] for name in schema}
    return ibis.memtable(pa.table(columns, schema=ibis.schema(schema).to_pyarrow()))


def resolved_at(terms: ibis.Table, day: int) -> ibis.Table:
    rows = ibis.duckdb.connect(threads=1).to_pyarrow(terms)
    return ibis.memtable(read_with_hindsight(rows, day))


@pytest.fixture(scope="module")
def moves() -> pd.DataFrame:
    terms = _table(daily_schema("subscriptions"), _terms())
    units = allowances(_table(daily_schema("entitlements"), _units()))
    return ibis.duckdb.connect(threads=1).execute(revenue_changes(resolved_at(terms, 400), units))


@pytest.mark.parametrize("account", EXPECTED)
def test_the_terms_tell_the_kind(moves, account):
    found = moves[moves["entity_id"] == account]
    assert [kind or None for kind in found["kind"]] == [EXPECTED[account]]


def test_a_window_has_the_kind_of_its_largest_rise_and_the_size_of_all():
    windows = ibis.memtable(
        {"entity_id": ["a"], "as_of_day": [0], "opens_day": [0], "closes_day": [91], "arr": [500.0]}
    )
    moves = ibis.memtable(
        {
            "entity_id": ["a", "a", "a", "a"],
            "day": [0, 10, 91, 92],
            "change": [900.0, 50.0, 150.0, 900.0],
            "kind": ["tier", "seats", "product", "tier"],
        }
    )
    found = ibis.duckdb.connect(threads=1).execute(kinds_of_rows(windows, moves))
    assert found.to_dict("records") == [
        {"entity_id": "a", "as_of_day": 0, "growth_kind": "product", "growth_uplift": 0.4}
    ]


def test_kinds_agree_with_the_truth_of_the_simulated_company():
    world = simulate(n_accounts=300, with_errors=False)
    terms = to_daily("subscriptions", _source(world, "subscriptions"), _source(world, "rates"),
                     history=False, currency="EUR")  # fmt: skip
    states = to_daily("entitlements", _source(world, "entitlements"), None, history=False,
                      currency="EUR")  # fmt: skip
    resolved = resolved_at(terms, day_index(world.now.date()))
    moves = ibis.duckdb.connect(threads=1).execute(revenue_changes(resolved, allowances(states)))
    rises = moves[moves["change"] > 0].sort_values("change")
    rises["decided_on"] = pd.to_datetime(rises["day"] - 1, unit="D")
    shown = rises.drop_duplicates(["entity_id", "day"], keep="last")
    truth = world.decisions.query("outcome == 'expansion'")
    both = truth.merge(
        shown, left_on=["account_id", "decided_on"], right_on=["entity_id", "decided_on"]
    )
    assert len(both) == len(truth)
    assert set(both["reason"]) == {"seats", "tier", "product", "usage"}
    told = both[both["kind"] != "unknown"]
    assert (told["kind"] == told["reason"]).all()
    assert len(told) > 0.95 * len(both)


def _source(world, name: str) -> ibis.Table:
    table = world.tables[name]
    columns = TABLES[name].columns
    dates = {
        name: table[name].dt.date.astype(object).where(table[name].notna(), None)
        for name, column in columns.items()
        if column.kind == "day" and name in table
    }
    instants = {
        name: table[name].dt.tz_localize(None)
        for name, column in columns.items()
        if column.kind == "instant" and name in table
    }
    known = table[TABLES[name].happened].astype("datetime64[us]")
    frame = table.assign(**dates, **instants, known_at=known)
    return ibis.memtable(pa.Table.from_pandas(frame, preserve_index=False))
