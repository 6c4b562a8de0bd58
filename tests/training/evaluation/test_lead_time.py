"""Lead times by hand: which row stands for which lead, and what it is measured against."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training.evaluation.lead_time import LEADS, alert_thresholds, by_lead_time, nearest
from training.evaluation.sampling import Drawing

START = pd.Timestamp("2025-01-01", tz="UTC")
DRAWING = Drawing(draws=60, seed=1, capacity_per_month=10, fold_days=91)


def days(number) -> pd.Timedelta:
    return pd.Timedelta(days=number)


def book(n=60, moments=8, step=30, horizon=400, seed=4) -> pd.DataFrame:
    """Accounts under contract, a third of which leave; notice is due on day 150 + their number.

    Those who leave decide ten days before the deadline; their rows end there. Scores know it.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(n)
    leaves, due = number % 3 == 0, 150 + number % 40
    parts = []
    for moment in range(moments):
        today = moment * step
        here = np.where(leaves, due - 10, due) > today
        p = np.clip(0.2 + 0.2 * leaves + 0.2 * rng.normal(size=n), 0.01, 0.99)
        parts.append(
            pd.DataFrame({
                "entity_id": [f"a{i:02d}" for i in number],
                "as_of": START + days(today),
                "fold": 1,
                "is_headline": moment == 0,
                "label": leaves.astype(int),
                "label_known_at": START + days(today + horizon),
                "decision_at": pd.Series(START + pd.to_timedelta(due - 10, unit="D")).where(leaves),
                "days_to_notice": (due - today).astype(float),
                "arr": 1_000.0 + number,
                "p_model": p,
                "p_calendar": 0.3,
            })[here]
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def table():
    found = by_lead_time(book(), ["model", "calendar"], DRAWING)
    return {(row["counted_from"], row["days"]): row for row in found}


def test_every_lead_is_there_from_both_moments(table):
    assert list(table) == [
        (moment, lead) for moment in ("notice deadline", "decision") for lead in LEADS
    ]


def test_a_deadline_counts_once_at_its_nearest_row(table):
    entry = table["notice deadline", 90]
    assert (entry["n"], entry["entities"], entry["events"]) == (60, 60, 20)
    assert entry["within_days"] == 15.0
    assert abs(entry["days_found"] - 90) <= 15


def test_measures_before_a_deadline_are_those_of_scikit_learn_on_the_rows_picked_by_hand(table):
    rows = book()
    rows["off"] = (rows["days_to_notice"] - 90).abs()
    picked = rows.sort_values(["off", "as_of"]).drop_duplicates("entity_id")
    found = table["notice deadline", 90]["measures"]
    label, p = picked["label"], picked["p_model"]
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(label, p))
    assert found["average_precision"]["value"] == pytest.approx(average_precision_score(label, p))
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(label, p))
    assert found["observed_to_expected"]["value"] == pytest.approx(label.sum() / p.sum())
    line = alert_thresholds(rows[rows["is_headline"]], "model", DRAWING)[1]
    caught = label[p >= line].sum() / label.sum()
    assert found["capture_at_capacity"]["value"] == pytest.approx(caught)
    rate = label[p >= line].mean() / label.mean()
    assert found["lift_at_capacity"]["value"] == pytest.approx(rate)
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]


def test_before_a_decision_events_of_one_lead_stand_against_all_who_stayed(table):
    rows = book()
    lead = (rows["decision_at"] - rows["as_of"]).dt.days
    events = rows[(lead - 60).abs() <= 15]
    events = events.assign(off=(lead - 60).abs()).sort_values(["off", "as_of"])
    events = events.drop_duplicates("entity_id")
    stayed = rows[rows["is_headline"] & (rows["label"] == 0)]
    both = pd.concat([events, stayed])
    entry = table["decision", 60]
    assert (entry["n"], entry["events"]) == (len(both), len(events))
    assert entry["auc"]["model"]["value"] == pytest.approx(
        roc_auc_score(both["label"], both["p_model"])
    )
    assert entry["auc"]["calendar"]["value"] == 0.5
    assert set(entry["measures"]) == {"auc", "capture_at_capacity", "arr_capture_at_capacity"}


def test_a_label_that_does_not_reach_the_deadline_says_nothing_of_it():
    short = by_lead_time(book(horizon=100), ["model"], DRAWING)
    found = {row["days"]: row for row in short if row["counted_from"] == "notice deadline"}
    assert found[90]["n"] > 0
    assert found[120]["n"] == found[180]["n"] == 0
    assert "auc" not in found[120]


def test_without_contracts_nothing_is_counted_from_a_deadline():
    rows = book().drop(columns="days_to_notice")
    assert {row["counted_from"] for row in by_lead_time(rows, ["model"], DRAWING)} == {"decision"}
    never = book().assign(days_to_notice=np.nan, decision_at=pd.NaT)
    never["decision_at"] = pd.to_datetime(never["decision_at"], utc=True)
    assert by_lead_time(never, ["model"], DRAWING) == []


def test_of_two_rows_as_near_the_earlier_counts():
    as_of = [START + days(95), START + days(125)]
    rows = pd.DataFrame({"entity_id": "a", "_until": START + days(200), "as_of": as_of})
    found = nearest(rows, np.array([105.0, 75.0]), 90, 15.0)
    assert found["_ahead"].tolist() == [105.0]
    assert nearest(rows, np.array([105.0, 75.0]), 90, 14.0).empty


def test_an_account_dealt_twice_counts_once():
    rows = pd.concat([book().assign(repeat=1), book().assign(repeat=2)], ignore_index=True)
    once = by_lead_time(book(), ["model"], DRAWING)
    assert by_lead_time(rows, ["model"], DRAWING) == once
