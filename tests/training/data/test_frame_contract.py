"""The contract of a training frame: good frames pass, and every fault is named with its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError
from configs.runtime.state_directory import State
from configs.schema.workspace import Workspace
from training.data.frame_contract import check_frame
from training.pipeline import train_frame


def test_a_good_frame_is_returned_as_it_is(frame):
    assert check_frame(frame) is frame


def spoiled(small, frame, name, change):
    rows = frame.rows.copy()
    if name in rows:
        rows[name] = change(rows[name])
        return small.with_columns(frame, rows={name: rows[name]})
    return small.with_columns(frame, features={name: change(frame.features[name])})


def put(value, at=3):
    """Return a change of one value of a column."""

    def change(column: pd.Series) -> pd.Series:
        changed = column.astype(object) if isinstance(value, str) else column.copy()
        changed.iloc[at] = value
        return changed

    return change


FAULTS = [
    ("label", put(2), r"label: isin\(\[0, 1\]\), 1 rows, the first is 3"),
    ("label", lambda c: c.astype("float64").where(c.index != 5), "label: not_nullable, 1 rows"),
    ("as_of", lambda c: c.dt.tz_convert("Asia/Tokyo"), "as_of: moments in UTC"),
    ("as_of", lambda c: c.iloc[::-1].reset_index(drop=True), "as_of: order"),
    ("entity_id", lambda c: c.where(c.index != 2), "entity_id: not_nullable"),
    ("entity_id", lambda c: pd.Series(range(len(c))), "entity_id: text"),
    ("arr", put(np.inf), "arr: finite, 1 rows, the first is 3"),
    ("is_under_contract", lambda c: c.astype(int), "is_under_contract: dtype"),
    ("segment", lambda c: c.where(c.index != 2), "segment: not_nullable"),
    ("label_known_at", lambda c: c - pd.Timedelta(days=400), "label_known_at is not before as_of"),
    ("users_28d", lambda c: c.astype("float32"), "users_28d: numbers"),
    ("users_28d", put("many"), "users_28d: numbers"),
    ("plan", lambda c: c.astype("category"), "plan: numbers"),
]


@pytest.mark.parametrize(("name", "change", "words"), FAULTS)
def test_what_breaks_the_contract_is_named(small, frame, name, change, words):
    with pytest.raises(DataError, match=words) as told:
        check_frame(spoiled(small, frame, name, change))
    assert told.value.where == "target churn"


def test_a_decision_without_an_outcome_is_named(small, frame):
    decided = frame.rows["decision_at"].fillna(frame.rows["as_of"])
    with pytest.raises(DataError, match="decision_at only where the label is 1"):
        check_frame(small.with_columns(frame, rows={"decision_at": decided}))


def test_a_key_twice_is_named(small, frame):
    twice = frame.rows["entity_id"].where(frame.rows.index != 1, frame.rows["entity_id"].iloc[0])
    with pytest.raises(DataError, match="entity_id and as_of are not unique together, 2 rows"):
        check_frame(small.with_columns(frame, rows={"entity_id": twice}))


def test_nothing_is_trained_on_rows_that_break_it(small, frame, tmp_path):
    workspace = Workspace(small.company(), tmp_path, tmp_path, State(tmp_path / "state"))
    broken = small.with_columns(frame, rows={"label": frame.rows["label"] * 2})
    with pytest.raises(DataError, match="the training rows violate their contract: label"):
        train_frame(workspace, broken, {})
    assert not workspace.state.bundles.exists()
