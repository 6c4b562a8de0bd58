"""Was the history edited after the fact? Each trace is found, and an honest history is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.health_audit.history import outcome_rows, score_rows
from training.health_audit.integrity import history_checks
from training.health_audit.monthly_panel import span_of
from training.health_audit.options import AuditOptions
from training.health_audit.score_direction import settle_direction


@pytest.fixture(scope="module")
def files(made):
    return made.company(accounts=250)


def checks(made, scores, outcomes, changed=None) -> dict[str, dict]:
    asked = AuditOptions(now=made.NOW)
    history = score_rows(scores, asked)
    decided = outcome_rows(
        outcomes.astype({"decided_on": str}), asked, set(history.rows["entity_id"])
    )
    span = span_of(history, decided, asked)
    found = history_checks(history, settle_direction(history, asked), decided, span, changed)
    return {item["code"]: item for item in found}


def lost_on(scores, outcomes) -> pd.Series:
    when = scores["account_id"].map(outcomes.set_index("account_id")["decided_on"])
    return pd.to_datetime(when)


def test_an_honest_history_passes(made, files):
    scores, outcomes = files
    stood = pd.to_datetime(scores["scored_on"])
    written = scores.assign(recorded_at=(stood + pd.Timedelta(hours=30)).astype(str))
    found = checks(made, written, outcomes)
    assert {item["passed"] for item in found.values()} == {True}


def test_without_a_time_of_writing_it_is_not_claimed(made, files):
    found = checks(made, *files)
    assert found["written_late"]["passed"] is None
    assert found["rewritten"]["passed"] is None


def test_a_bulk_backfill(made, files):
    scores, outcomes = files
    found = checks(made, scores.assign(recorded_at="2025-12-30T09:00:00"), outcomes)
    assert found["written_late"]["passed"] is False
    assert "on one day, 30" in found["written_late"]["words"]


def test_scores_written_late(made, files):
    scores, outcomes = files
    stood = pd.to_datetime(scores["scored_on"])
    late = np.where(np.arange(len(scores)) % 2, 60, 1)
    written = scores.assign(recorded_at=(stood + pd.to_timedelta(late, unit="D")).astype(str))
    assert checks(made, written, outcomes)["written_late"]["passed"] is False


def test_rewritten_after_the_decision(made, files):
    scores, outcomes = files
    stood = pd.to_datetime(scores["scored_on"])
    first = scores.assign(recorded_at=(stood + pd.Timedelta(days=1)).astype(str))
    lost = lost_on(scores, outcomes)
    last = (lost - stood).dt.days.between(1, 40)
    again = scores[last].assign(
        health_score=4.0, recorded_at=(lost[last] + pd.Timedelta(days=20)).astype(str)
    )
    found = checks(made, pd.concat([first, again], ignore_index=True), outcomes)
    assert found["rewritten"]["passed"] is False


def test_changed_since_it_was_recorded(made, files):
    scores, outcomes = files
    lost = lost_on(scores, outcomes)
    before = scores[(pd.to_datetime(scores["scored_on"]) < lost)]
    changed = pd.DataFrame({
        "entity_id": before["account_id"],
        "scored_at": pd.to_datetime(before["scored_on"], utc=True),
    })  # fmt: skip
    found = checks(made, scores, outcomes, changed)
    assert found["rewritten"]["passed"] is False
    assert "differ from the earlier recording" in found["rewritten"]["words"]


def test_today_copied_backwards(made, files):
    scores, outcomes = files
    last = scores.groupby("account_id")["health_score"].transform("last")
    found = checks(made, scores.assign(health_score=last).drop(columns="band"), outcomes)
    assert found["copied"]["passed"] is False


def test_red_on_the_day_of_the_decision(made, files):
    scores, outcomes = files
    day = outcomes["decided_on"].astype(str)
    stamp = pd.DataFrame({
        "account_id": outcomes["account_id"], "scored_on": day, "health_score": 2.0, "band": "red",
    })  # fmt: skip
    found = checks(made, pd.concat([scores, stamp], ignore_index=True), outcomes)
    assert found["stamped"]["passed"] is False
    assert "on the day of the decision" in found["stamped"]["words"]


def test_leavers_are_gone_from_the_history(made, files):
    scores, outcomes = files
    kept = scores[~scores["account_id"].isin(outcomes["account_id"])]
    some = scores[scores["account_id"].isin(outcomes["account_id"].iloc[:3])]
    found = checks(made, pd.concat([kept, some], ignore_index=True), outcomes)
    assert found["purged"]["passed"] is False
