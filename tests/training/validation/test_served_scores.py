"""The prospective record: counted, weighed and judged as it says, against statsmodels."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from training.report.content import plain_content
from training.validation.served_scores import OPEN, SCORE_COLUMNS, first_of_month, served_content

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def score(entity: str, as_of: str, p: float, label: float | None, **more) -> dict:
    moment = pd.Timestamp(as_of, tz="UTC")
    closes = moment + pd.Timedelta(days=91)
    row = {
        "target": "churn", "entity_id": entity, "as_of": moment,
        "served_at": moment + pd.Timedelta(hours=8), "model": "a" * 64, "p": p,
        "band": "high" if p >= 0.3 else "elevated" if p >= 0.15 else "low", "arr": 100.0,
        "segment": "small", "label": np.nan if label is None else label,
        "excluded": None if label is not None else OPEN, "closes_at": closes,
        "decision_at": moment + pd.Timedelta(days=40) if label == 1 else pd.NaT,
        "so_far": label == 1,
    }  # fmt: skip
    return row | more


def table(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(SCORE_COLUMNS)).astype({"label": "float64"})
    return frame.assign(decision_at=pd.to_datetime(frame["decision_at"], utc=True))


@pytest.fixture(scope="module")
def content() -> dict:
    rng = np.random.default_rng(2)
    rows = []
    for i in range(240):
        p = float(rng.uniform(0.02, 0.5))
        label = float(rng.random() < p)
        rows.append(
            score(f"a{i}", f"2025-{7 + i % 3:02d}-01", p, label, arr=float(rng.integers(1, 900)),
                  segment="large" if i % 4 == 0 else "small")
        )  # fmt: skip
    rows += [score(f"a{i}", "2026-02-01", 0.2, None, so_far=i < 2) for i in range(10)]
    rows.append(score("gone", "2025-07-01", 0.4, None, excluded="already decided"))
    return plain_content(served_content(table(rows), NOW, seed=3)) | {"rows": rows}


def test_rates_and_wilson_intervals_are_those_of_statsmodels(content):
    part = content["targets"]["churn"]
    for item in [*part["bands"], part["overall"], *part["segments"]]:
        expected = proportion_confint(item["events"], item["accounts"], method="wilson")
        assert (item["low"], item["high"]) == pytest.approx(expected)
    assert sum(item["events"] for item in part["bands"]) == part["overall"]["events"]
    assert sum(item["arr_moved"] for item in part["segments"]) == pytest.approx(
        part["overall"]["arr_moved"]
    )


def test_arr_is_weighed_and_its_interval_is_drawn_over_accounts(content):
    closed = [row for row in content["rows"] if row["excluded"] is None]
    arr = np.array([row["arr"] for row in closed])
    label = np.array([row["label"] for row in closed])
    rate = content["targets"]["churn"]["overall"]["arr_rate"]
    assert rate["value"] == pytest.approx(arr @ label / arr.sum())
    # Of a ratio of independent accounts: the delta method, to a tenth.
    error = np.sqrt((arr**2 * (label - rate["value"]) ** 2).sum()) / arr.sum()
    assert rate["high"] - rate["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_open_windows_are_interim_and_count_as_nothing(content):
    part = content["targets"]["churn"]
    assert (part["closed"], part["open"]) == (240, 10)
    assert part["left_out"] == [{"words": "already decided", "scores": 1}]
    assert part["interim"]["so_far"] == 2
    assert part["interim"]["expected_events"] == pytest.approx(2.0)
    assert part["interim"]["next_closes"] == "2026-05-03"
    by_quarter = {item["quarter"]: item for item in part["quarters"]}
    assert by_quarter["2025 Q3"]["is_interim"] is False
    assert by_quarter["2026 Q1"]["is_interim"] is True
    assert by_quarter["2026 Q1"]["accounts"] == 0


def test_lead_time_is_from_score_to_decision(content):
    lead = {item["from_days"]: item for item in content["targets"]["churn"]["lead"]}
    assert lead[30]["events"] == content["targets"]["churn"]["overall"]["events"]
    assert lead[0]["events"] == 0
    assert lead[0]["share"] is None


def test_a_daily_book_counts_each_account_once_a_month():
    rows = [score("one", f"2025-07-{day:02d}", 0.1 + day / 100, 0.0) for day in range(1, 29)]
    rows += [score("one", "2025-07-09", 0.3, 0.0, model="b" * 64)]
    counted = first_of_month(table(rows))
    assert counted["p"].tolist() == [0.11, 0.3]  # the other model has a record of its own


def test_without_a_score_and_before_a_window_closes_it_says_so():
    nothing = served_content(table([]), NOW, seed=1)
    assert nothing["words"] == ["No score has been served yet."]
    early = served_content(table([score("a", "2026-02-01", 0.2, None)]), NOW, seed=1)
    assert "no verdict yet. The first closes on 3 May 2026" in early["words"][0]
    assert early["targets"]["churn"]["measures"] is None
