"""BW-L15: no feature turns when the label turns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from features.tables.catalog import FeatureInfo
from training.checks.label_turns import label_turns
from training.data.training_frame import TrainingFrame

CODE = "BW-L15"
HORIZON = 91


@pytest.fixture(scope="module")
def leaving() -> TrainingFrame:
    """Monthly rows of accounts whose lasting risk decides when they leave.

    `risk` is an honest feature of AUC above 0.8 that knows nothing of the day; `fades` falls over
    the half year before a decision, as usage does.
    """
    rng = np.random.default_rng(0)
    n = 700
    risk = rng.normal(size=n)
    gone = np.minimum(np.round(rng.exponential(900 * np.exp(-2.0 * risk))) + 120, 5_000)
    rows = []
    for month in range(20):
        here = np.flatnonzero(gone > 30 * month)
        lead = gone[here] - 30 * month
        as_of = pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(days=30 * month)
        decided = as_of + pd.to_timedelta(lead, unit="D")
        label = (lead <= HORIZON).astype("int64")
        rows.append(
            pd.DataFrame({
                "entity_id": [f"a{i:04d}" for i in here], "as_of": as_of, "label": label,
                "label_known_at": as_of + pd.Timedelta(days=HORIZON),
                "decision_at": pd.Series(decided).where(label == 1),
                "arr": 1.0, "segment": "all", "is_under_contract": False,
                "days_to_renewal": np.nan, "health_score": np.nan,
                "risk": risk[here] + 0.3 * rng.normal(size=len(here)),
                "fades": np.clip(lead, 0, 180) / 40 + rng.normal(size=len(here)),
            })
        )  # fmt: skip
    table = pd.concat(rows, ignore_index=True).sort_values(["as_of", "entity_id"])
    table = table.reset_index(drop=True)
    info = tuple(
        FeatureInfo(name, "usage", name, "", "ratio", 28, "adoption") for name in ("risk", "fades")
    )
    return TrainingFrame("churn", table.drop(columns=["risk", "fades"]),
                         table[["risk", "fades"]], info)  # fmt: skip


def look(find, frame):
    return find(CODE, SimpleNamespace(frame=frame))


def test_honest_features_pass_however_well_they_predict(find, leaving):
    label = leaving.label
    assert roc_auc_score(label, leaving.features["risk"]) > 0.8
    assert roc_auc_score(label, -leaving.features["fades"]) > 0.8
    assert look(find, leaving).outcome == "passed"


@pytest.mark.parametrize(("strength", "area"), [(1.24, 0.81), (1.73, 0.89)])
def test_an_outcome_under_noise_is_an_issue(find, leaving, with_column, strength, area):
    rng = np.random.default_rng(1)
    values = strength * leaving.label + rng.normal(size=len(leaving))
    assert roc_auc_score(leaving.label, values) == pytest.approx(area, abs=0.02)
    found = look(find, with_column(leaving, values))
    assert found.outcome == "issue"
    assert "planted" in found.words


def test_a_list_of_leavers_with_gaps_and_errors_is_an_issue(find, leaving, with_column):
    rng = np.random.default_rng(2)
    listed = rng.random(len(leaving)) < np.where(leaving.label == 1, 0.65, 0.03)
    found = look(find, with_column(leaving, listed.astype(float)))
    assert found.outcome == "issue"


def test_to_be_known_only_of_leavers_is_a_turn_too(find, leaving, with_column):
    values = np.where(leaving.label == 1, 5.0, np.nan)
    assert look(find, with_column(leaving, values)).outcome == "issue"


def test_labels_that_follow_the_moment_are_not_asked(find, clean):
    # Their labels are drawn anew each month: no two rows tell of one decision.
    assert label_turns(clean.frame) is None
    assert find(CODE, clean).outcome == "not applicable"
