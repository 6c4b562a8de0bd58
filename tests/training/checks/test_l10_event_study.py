"""BW-L10: no feature jumps with the decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata

from training.checks.event_study import STEP_DAYS, event_study

CODE = "BW-L10"


def lead_days(frame) -> np.ndarray:
    return (frame.rows["decision_at"] - frame.rows["as_of"]).dt.days.to_numpy()


@pytest.fixture
def looking(find, clean):
    """Look at the clean training with another frame: the check reads nothing else."""
    return lambda frame: find(CODE, replace(clean, frame=frame))


def planted(small, frame, values):
    info = replace(frame.info[0], name="planted", label="planted")
    return small.with_columns(frame, features={"planted": values}, info=(*frame.info, info))


def far_seeing(frame):
    """Every row of a leaver is dated, up to 120 days ahead."""
    rng = np.random.default_rng(2)
    lead = pd.to_timedelta(rng.integers(0, 120, len(frame)), unit="D")
    decided = (frame.rows["as_of"] + lead).where(frame.rows["label"] == 1)
    return replace(frame, rows=frame.rows.assign(decision_at=decided))


def test_quiet_on_clean_rows(looking, frame):
    assert looking(far_seeing(frame)).outcome == "passed"


def test_quiet_on_a_feature_that_drifts_towards_the_decision(looking, frame, small):
    seeing = far_seeing(frame)
    noise = np.random.default_rng(3).normal(size=len(frame))
    drift = np.nan_to_num(3.0 - lead_days(seeing) / 40.0) + noise
    assert looking(planted(small, seeing, drift)).outcome == "passed"


@pytest.mark.parametrize(("size", "outcome"), [(3.0, "issue"), (0.8, "tip")])
def test_a_feature_written_by_the_decision_is_caught(looking, frame, small, size, outcome):
    seeing = far_seeing(frame)
    noise = np.random.default_rng(3).normal(size=len(frame))
    seats_gone = -size * (lead_days(seeing) < STEP_DAYS) + noise
    found = looking(planted(small, seeing, seats_gone))
    assert found.outcome == outcome
    assert "planted (-" in found.words


def test_what_never_happens_to_those_who_stay_is_caught(looking, frame, small):
    seeing = far_seeing(frame)
    exports = (lead_days(seeing) < 20) & (np.random.default_rng(4).random(len(frame)) < 0.5)
    found = looking(planted(small, seeing, exports.astype(float)))
    assert found.outcome == "issue"
    assert "planted (+" in found.words


def test_a_fall_of_small_accounts_is_not_lost_among_large_ones(looking, frame, small):
    seeing, rng = far_seeing(frame), np.random.default_rng(5)
    users = np.round(np.exp(1.5 + 1.5 * rng.normal(size=len(frame))))
    fallen = np.where(lead_days(seeing) < STEP_DAYS, np.floor(0.1 * users), users)
    found = looking(planted(small, seeing, fallen))
    assert found.outcome == "issue"
    assert "sd in rank)" in found.words


def test_ranks_by_moment_are_normal_scores_of_scipy(frame, small):
    seeing = far_seeing(frame)
    found = event_study(seeing, by_rank=True)
    rows, stayed = seeing.rows, seeing.rows["label"] == 0
    users = seeing.features["users_28d"]
    scores = users.groupby(rows["as_of"]).transform(
        lambda x: norm.ppf((rankdata(x) - 0.375) / (len(x) + 0.25))
    )
    apart = scores - rows["as_of"].map(scores[stayed].groupby(rows["as_of"][stayed]).mean())
    here = rows[(rows["label"] == 1) & (lead_days(seeing) < STEP_DAYS)]
    last = here.drop_duplicates(["entity_id", "decision_at"], keep="last").index
    wanted = (apart[last] / apart[stayed].std()).mean()
    assert found.gap[found.names.index("users_28d"), -1] == pytest.approx(wanted)


def test_the_gap_is_that_worked_by_hand(frame, small):
    seeing = far_seeing(frame)
    found = event_study(planted(small, seeing, np.random.default_rng(1).normal(size=len(frame))))
    rows, lead = seeing.rows, lead_days(seeing)
    x = found.names.index("users_28d")
    values = seeing.features["users_28d"]
    stayed = rows["label"] == 0
    apart = values - rows["as_of"].map(values[stayed].groupby(rows["as_of"][stayed]).mean())
    here = rows[(rows["label"] == 1) & (lead < STEP_DAYS)]
    last = here.drop_duplicates(["entity_id", "decision_at"], keep="last").index
    wanted = (apart[last] / apart[stayed].std()).clip(-10, 10).mean()
    assert found.gap[x, -1] == pytest.approx(wanted)
    assert found.from_days == (120, 90, 60, 30)
    told = found.summary(2)
    assert [told.n_events, told.n_features] == [found.n_events, len(found.names)]
    assert len(told.rows) == 2 * 4
    ends = np.sort(np.abs(found.gap[:, -1]))[::-1][:2]
    assert [abs(row.gap) for row in told.rows[3::4]] == pytest.approx(ends)


def test_undated_decisions_cannot_be_aligned(looking, frame):
    decided = frame.rows["decision_at"]
    undated = frame.rows.assign(decision_at=decided.mask(decided.notna()))
    assert looking(replace(frame, rows=undated)).outcome == "not applicable"
