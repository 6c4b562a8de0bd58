"""A value enters a feature only if it happened and was known by as_of: for every family."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from features.signals import FAMILIES, feature_catalogue
from features.tables.source_tables import ROW, TABLES, VERSIONS

AS_OF = date(2025, 3, 1)
MOMENT = datetime(2025, 3, 1)

# Each example recomputes every family twice: few examples, many rows in each.
few = settings(max_examples=12, deadline=None, derandomize=True)


def _later(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same rows known only after as_of, with other values in them."""
    late = frame.sample(frac=1.0, random_state=int(rng.integers(1e9)))
    late = late.assign(
        known_at=[MOMENT + timedelta(seconds=float(rng.uniform(1, 1e7))) for _ in range(len(late))]
    )
    for column in late.columns:
        if late[column].dtype == "float64":
            late[column] = late[column] * 7 + 1
        if column.endswith("_id") and column != "account_id":
            late[column] = late[column].astype(str) + "late"
    return late


@few
@given(seed=st.integers(0, 10**6))
def test_late_and_future_rows_cannot_move_any_feature(seed, make_tables, features_at):
    tables = make_tables(seed)
    before = features_at(tables, AS_OF)
    rng = np.random.default_rng(seed)
    poisoned = {
        name: frame if name == "accounts" else pd.concat([frame, _later(frame, rng)])
        for name, frame in tables.items()
    }
    assert_frame_equal(features_at(poisoned, AS_OF), before)


@few
@given(seed=st.integers(0, 10**6))
def test_values_that_become_visible_later_cannot_move_any_feature(seed, make_tables, features_at):
    """Every mutable column is overwritten wherever its own moment has not come."""
    tables = make_tables(seed)
    before = features_at(tables, AS_OF)
    changed = {name: _overwritten(name, frame) for name, frame in tables.items()}
    assert any(not changed[name].equals(tables[name]) for name in tables)
    assert_frame_equal(features_at(changed, AS_OF), before)


def _overwritten(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for column, spec in TABLES[name].columns.items():
        if spec.visible_from in {ROW, VERSIONS}:
            continue
        since = pd.to_datetime(frame[spec.visible_from])
        if TABLES[name].columns[spec.visible_from].kind == "day":
            since = since + pd.Timedelta(days=1)
        hidden = since.isna() | (since > pd.Timestamp(MOMENT))
        if column == spec.visible_from:
            moved = MOMENT + timedelta(days=33, hours=1)
            frame.loc[hidden, column] = moved.date() if spec.kind == "day" else moved
        elif spec.kind == "flag":
            frame.loc[hidden, column] = ~frame.loc[hidden, column].astype(bool)
        elif spec.kind == "number":
            frame.loc[hidden, column] = frame.loc[hidden, column] + 1
        elif spec.values:
            frame.loc[hidden, column] = spec.values[0]
    return frame


@few
@given(seed=st.integers(0, 10**6))
def test_columns_overwritten_in_place_are_no_features(seed, make_tables, features_at):
    tables = make_tables(seed)
    before = features_at(tables, AS_OF)
    for name, spec in TABLES.items():
        for column, item in spec.columns.items():
            if name in tables and item.visible_from == VERSIONS:
                tables[name][column] = None
    assert_frame_equal(features_at(tables, AS_OF), before)


def test_the_poison_would_show_if_it_were_known(make_tables, features_at):
    """The same rows, known in time, do move every family: the tests above can fail."""
    tables = make_tables(1)
    rng = np.random.default_rng(1)
    before = features_at(tables, AS_OF)
    known = {
        name: frame
        if name == "accounts"
        else pd.concat([frame, _later(frame, rng).assign(known_at=datetime(2023, 1, 2))])
        for name, frame in tables.items()
    }
    after = features_at(known, AS_OF)
    for family in FAMILIES:
        names = [item.name for item in family.features if item.name in before]
        assert not after[names].equals(before[names]), family.name


@pytest.mark.parametrize(
    ("at", "is_in"),
    [
        (datetime(2025, 3, 1, 0, 0, 0), True),
        (datetime(2025, 3, 1, 0, 0, 0, 1), False),
        (datetime(2025, 2, 1, 0, 0, 0, 1), True),
        (datetime(2025, 2, 1, 0, 0, 0), False),
    ],
)
def test_windows_are_open_below_and_closed_above(at, is_in, make_tables, features_at):
    """(as_of − 28 days, as_of], to the microsecond."""
    tables = make_tables(2)
    event = {"account_id": "a", "occurred_at": at, "known_at": at, "quantity": 28.0}
    row = {column: event.get(column, "u1") for column in tables["usage_events"].columns}
    tables["usage_events"] = pd.DataFrame([row])
    found = features_at(tables, AS_OF)
    assert found.loc["a", "active_days_28d"] == float(is_in)


def test_at_least_sixty_features_with_words_for_each():
    items = feature_catalogue()
    assert len(items) >= 60
    assert len({item.name for item in items}) == len(items)
    for item in items:
        assert item.meaning.endswith("."), item.name
        assert item.window_days is None or item.window_days % 7 == 0, item.name
        assert item.window_days is None or item.name.endswith(
            (f"_{item.window_days}d", "_year", "_ratio", "_score")
        ), item.name
