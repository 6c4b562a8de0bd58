"""The team's list by hand: who comes up when, how early, and whose work it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.alert_list import first_alerts, listed_rows, weighted_quantile, workload
from training.evaluation.sampling import DAYS_PER_MONTH, Drawing

DAY = pd.Timestamp("2026-01-01", tz="UTC")
DRAWING = Drawing(draws=100, seed=1, capacity_per_month=5, fold_days=91)


def rows_of(label, p, **columns) -> pd.DataFrame:
    plain = {
        "entity_id": [f"A{i}" for i in range(len(label))],
        "as_of": DAY,
        "fold": 1,
        "is_headline": True,
        "label": np.asarray(label, dtype="int8"),
        "decision_at": pd.NaT,
        "p_model": p,
        "p_calendar": 0.1,
    }
    made = pd.DataFrame({**plain, **columns}, index=range(len(label)))
    made["decision_at"] = pd.to_datetime(made["decision_at"], utc=True)
    return made


class TestLead:
    def rows(self) -> pd.DataFrame:
        """Two accounts that leave and two that stay, three moments thirty days apart."""
        parts = []
        for step in range(3):
            at = DAY + pd.Timedelta(days=30 * step)
            parts.append(
                rows_of(
                    [1, 1, 0, 0], [0.9, 0.2, 0.5, 0.4], as_of=at, is_headline=step == 0,
                    decision_at=[DAY + pd.Timedelta(days=80), DAY + pd.Timedelta(days=85),
                                 pd.NaT, pd.NaT],
                )
            )  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def test_a_list_moves_on(self):
        rows = self.rows()
        listed = rows[listed_rows(rows, "model", 1, 0)]
        assert listed["entity_id"].tolist() == ["A0", "A2", "A3"]

    def test_ties_fall_by_lot_and_fill_the_list(self):
        rows = self.rows()
        listed = listed_rows(rows, "calendar", 1, 0)
        assert listed.sum() == 3
        assert rows[listed]["entity_id"].nunique() == 3

    def test_days(self):
        drawing = Drawing(draws=100, seed=1, capacity_per_month=1, fold_days=91)
        found = first_alerts(self.rows(), ["model", "calendar"], drawing)
        assert found["events"] == 2
        assert found["models"]["model"]["caught"] == 1
        assert found["models"]["model"]["share"] == 0.5
        assert found["models"]["model"]["median_days"]["value"] is None  # too few for a median
        assert found["models"]["model"]["mean_days"]["value"] == 40.0  # 80 days and 0

    def test_undated(self):
        rows = self.rows().assign(decision_at=pd.NaT)
        rows["decision_at"] = pd.to_datetime(rows["decision_at"], utc=True)
        found = first_alerts(rows, ["model"], DRAWING)
        assert found["events"] == 0
        assert found["models"]["model"]["share"] is None
        assert found["difference"] is None

    def test_known_lead(self):
        n = 40
        decided = [DAY + pd.Timedelta(days=70)] * n + [pd.NaT] * n
        rows = rows_of([1] * n + [0] * n, [0.9] * n + [0.1] * n, decision_at=decided)
        drawing = Drawing(draws=100, seed=1, capacity_per_month=n, fold_days=91)
        found = first_alerts(rows, ["model"], drawing)["models"]["model"]
        assert found["median_days"] == {"value": 70.0, "low": 70.0, "high": 70.0}
        assert found["share"] == 1.0


@given(
    st.lists(st.tuples(st.floats(0, 365), st.integers(0, 4)), min_size=1, max_size=20),
    st.sampled_from([0.25, 0.5, 0.75]),
)
def test_a_weighted_quantile_is_that_of_the_values_repeated(pairs, share):
    values, times = np.array([v for v, _ in pairs]), np.array([n for _, n in pairs])
    found = weighted_quantile(values, times[None, :].astype(float), share)[0]
    repeated = np.repeat(values, times)
    if len(repeated) == 0:
        assert np.isnan(found)
    else:
        expected = np.quantile(repeated, share, method="averaged_inverted_cdf")
        assert found == pytest.approx(expected)


def test_the_distribution_by_hand():
    """Twenty events, five a quarter; the list takes five a month, the dearest first."""
    n = 20
    parts = []
    for step in range(4):
        at = DAY + pd.Timedelta(days=30 * step)
        decided = [DAY + pd.Timedelta(days=100)] * n
        score = np.where(np.arange(n) // 5 == step, 0.9, 0.1)
        parts.append(rows_of([1] * n, score, as_of=at, decision_at=decided))
    found = first_alerts(pd.concat(parts, ignore_index=True), ["model"], DRAWING)
    model = found["models"]["model"]
    assert (found["events"], found["longest_days"], model["caught"]) == (20, 100.0, 20)
    # listed 100, 70, 40 and 10 days ahead, five each
    assert model["median_days"]["value"] == 55.0
    assert model["first_quartile_days"]["value"] == 25.0
    assert model["third_quartile_days"]["value"] == 85.0
    shares = {least: item["value"] for least, item in model["warned"].items()}
    assert shares == {"30": 0.75, "60": 0.5, "90": 0.25}
    for item in model["warned"].values():
        assert item["low"] < item["value"] < item["high"]


class TestWorkload:
    def rows(self) -> pd.DataFrame:
        """Ten accounts, three moments a month apart; half belong to ann, two to bob."""
        owner = np.array(["ann"] * 5 + ["bob"] * 2 + [None] * 3, dtype=object)
        score = np.linspace(0.9, 0.1, 10)
        return pd.concat([
            rows_of([1, 0] * 5, score, as_of=DAY + pd.DateOffset(months=month), owner_id=owner)
            for month in range(3)
        ], ignore_index=True)  # fmt: skip

    def test_alerts_fall_to_the_owners_of_today(self):
        drawing = Drawing(draws=50, seed=1, capacity_per_month=3, fold_days=91)
        found = workload(self.rows(), drawing)
        # three a month: ann's first three; ann's last two and bob's first; then bob's and two more
        assert (found["alerts"], found["csms"]) == (9, 2)
        assert found["per_month"] == pytest.approx(9 / found["months"])
        assert found["months"] == pytest.approx(3 * 29.5 / DAYS_PER_MONTH)
        assert found["per_csm_month"] == {"mean": 7 / 6, "median": 1.0, "busy": 3.0, "most": 3}
        assert found["without_owner"] == pytest.approx(2 / 9)
        assert found["precision"]["value"] == pytest.approx(5 / 9)

    def test_no_owner_no_word_of_csms(self):
        found = workload(self.rows().drop(columns="owner_id"), DRAWING)
        assert found["csms"] is None
        assert "per_csm_month" not in found
        assert workload(self.rows().assign(owner_id=None), DRAWING) == found
