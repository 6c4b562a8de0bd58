import numpy as np
import pandas as pd
import pytest

from training.evaluation.evaluate import evaluate
from training.evaluation.sampling import Drawing, sample_of

DRAWING = Drawing(draws=50, seed=1, capacity_per_month=10, fold_days=91)
START = pd.Timestamp("2025-01-01", tz="UTC")


def predictions(n=60, months=3) -> pd.DataFrame:
    """Two folds; accounts below 20 decide on day 95 + their number, so each lead time is known."""
    parts = []
    for fold in (1, 2):
        for month in range(months):
            as_of = START + pd.Timedelta(days=30 * month + 365 * (fold - 1))
            decided = np.arange(n) < 20
            first = START + pd.Timedelta(days=365 * (fold - 1))
            at = first + pd.to_timedelta(95 + np.arange(n), unit="D")
            p = np.where(decided, 0.6, 0.2) + np.arange(n) / 1000
            parts.append(
                pd.DataFrame(
                    {
                        "entity_id": [f"a{i}" for i in range(n)],
                        "as_of": as_of,
                        "fold": fold,
                        "is_headline": month == 0,
                        "is_newcomer": np.arange(n) % 2 == 0,
                        "label": decided.astype(int),
                        "decision_at": pd.Series(at).where(decided),
                        "arr": 1000.0,
                        "segment": np.where(np.arange(n) % 3 == 0, "large", None),
                        "is_under_contract": np.arange(n) % 2 == 1,
                        "p_model": p,
                        "p_model_raw": p,
                        "p_constant": 0.3,
                        "p_calendar": 0.3,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def found():
    folds = pd.DataFrame({"fold": [1, 2], "cutoff": [START, START + pd.Timedelta(days=365)]})
    return evaluate(predictions(), folds, DRAWING, target="churn", over="time", notes=["a note"])


def test_headline_counts(found):
    assert (found.n_rows, found.n_entities, found.n_events) == (120, 60, 40)
    assert found.base_rate == pytest.approx(1 / 3)
    assert found.notes == ["a note"]


def test_capacity_is_spent_in_each_fold(found):
    assert found.capacity["per_fold"] == pytest.approx(29.9, abs=0.05)
    sample = sample_of(predictions(), "model", 30)
    assert sample.flagged.sum() == pytest.approx(60)
    assert found.models["model"]["capture_at_capacity"]["value"] == 1.0
    assert found.models["constant"]["capture_at_capacity"]["value"] == pytest.approx(
        0.498, abs=0.01
    )


def test_each_part_of_the_backtest_is_there(found):
    assert [(row["counted_from"], row["days"]) for row in found.lead_times] == [
        ("decision", days) for days in (30, 60, 90, 120, 180)
    ]
    assert found.first_alerts["events"] == 40
    assert found.workload["alerts"] == 60, "ten at each of six moments"
    assert [row["fold"] for row in found.periods] == [1, 2]
    assert found.stability["periods"] == 2


def test_accounts_held_out_have_no_periods_and_no_alerts():
    folds = pd.DataFrame({"fold": [1, 2]})
    held = evaluate(predictions(), folds, DRAWING, target="churn", over="accounts")
    assert (held.first_alerts, held.workload, held.periods, held.stability) == ({}, {}, [], {})


def test_slices_too_thin_to_measure_still_count(found):
    slices = {row["slice"]: row for row in found.segments}
    assert slices["unknown"]["n"] == 80
    assert slices["large"]["auc"]["value"] == 1.0
    thin = evaluate(
        predictions(n=24), pd.DataFrame({"fold": [1, 2]}), DRAWING, target="churn", over="time"
    )
    assert thin.segments[1]["events"] == 14
    assert "auc" not in thin.segments[1], "too few who stayed"


def test_per_fold_measures_stand_beside_what_was_tested(found):
    assert [row["fold"] for row in found.folds] == [1, 2]
    assert found.folds[0]["auc"] == 1.0
    assert found.folds[0]["cutoff"] == "2025-01-01T00:00:00+00:00"


def test_baselines_are_not_asked_for_a_calibration_curve(found):
    assert "calibration_slope" in found.models["model_raw"]
    assert "calibration_slope" not in found.models["constant"]
    assert found.differences["constant"]["auc"]["value"] == 0.5
    assert set(found.differences) == {"constant", "calendar"}
