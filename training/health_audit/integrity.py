"""Integrity checks: signs that the score history was edited after the outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from configs.runtime.formatting import count, day, percent, plural
from training.data.splits import entity_codes
from training.evaluation.metrics import Sample, auc, bootstrap, estimate
from training.evaluation.sampling import MIN_SLICE_EVENTS, Drawing
from training.health_audit.edit_detection import UNLIKELY, traces_of
from training.health_audit.history import OutcomeRows, ScoreRows
from training.health_audit.monthly_panel import PanelSpan
from training.health_audit.score_direction import ScoreDirection
from training.reporting.report_text import estimated, p_words
from training.validation.content_types import CheckContent

LATE_SHARE, LATE_DAYS = 0.2, 7.0
BULK_SHARE, BULK_SPAN_DAYS = 0.5, 90.0
REWRITTEN_SHARE = 0.05
COPIED_SHARE, COPIED_MOMENTS = 0.95, 6
STAMPED_SHARE, STAMPED_LEAST = 0.10, 5
ON_SCHEDULE = 0.02
"""Share of accounts scored on a day from which the day counts as a scheduled scoring day."""
KEPT_SHARE, KEPT_LEAST, KEPT_LEAD_DAYS = 0.10, 5, 30
CLIFF, NEAR_DAYS = 0.10, 30
PURGED_SHARE = 0.5

TRACES = {
    "one_distance": "scores of many accounts do not fall at the same distance from the decision",
    "too_even": "scores of lost accounts vary as much as those of retained accounts",
    "one_level": "lost accounts do not share one narrow score level",
}
"""Titles of the checks on traces of edits (`training.health_audit.edit_detection`)."""


def ranked_by_risk(rows: pd.DataFrame) -> Sample:
    """Return rows (entity_id, fold, label, risk) as a sample without flags and ARR."""
    nothing = np.zeros(len(rows))
    return Sample(
        rows["label"].to_numpy(dtype=np.float64),
        rows["risk"].to_numpy(dtype=np.float64),
        nothing,
        nothing,
        entity_codes(rows),
        rows["fold"].to_numpy(dtype=np.int64),
    )


def check(code: str, title: str, passed: bool | None, words: str) -> CheckContent:
    """Return a check for the verdict; passed is None if it could not run."""
    return {"code": code, "title": title, "passed": passed, "words": words}


def history_checks(
    history: ScoreRows,
    ordered: ScoreDirection,
    outcomes: OutcomeRows,
    span: PanelSpan,
    changed: pd.DataFrame | None,
) -> list[CheckContent]:
    """Return the integrity checks on both files.

    Parameters
    ----------
    history : ScoreRows
        All versions of the scores.
    ordered : ScoreDirection
        The scores with risk and level.
    outcomes : OutcomeRows
        Decisions.
    span : PanelSpan
        The time of the scores.
    changed : pandas.DataFrame or None
        Scores that differ from an earlier recording (entity_id, scored_at); None without one.
    """
    lost = outcomes.rows[outcomes.rows["kind"] == "churn"].groupby("entity_id")["decision_at"].min()
    return [
        _written_late(history),
        _rewritten(history, lost, changed),
        _unchanged_scores(ordered.rows),
        _falls_on_decision_day(ordered.rows, lost),
        _missing_accounts(ordered.rows, lost, span),
        *_traces(ordered.rows, lost),
    ]


def _traces(rows: pd.DataFrame, lost: pd.Series) -> list[CheckContent]:
    """Return one check per statistical trace of edits."""
    found = traces_of(rows, lost)
    if found is None:
        few = "too few lost or retained accounts"
        return [check(code, title, None, few) for code, title in TRACES.items()]
    return [
        check(
            code,
            title,
            found[code].p_value >= UNLIKELY[code],
            f"{found[code].words}(p {p_words(found[code].p_value)})"
            if found[code].p_value < UNLIKELY[code]
            else "no more than expected by chance",
        )
        for code, title in TRACES.items()
    ]


def _written_late(history: ScoreRows) -> CheckContent:
    title = "scores were written on their own dates"
    if not history.has_recorded:
        return check("written_late", title, None, "the file has no times of writing")
    rows = history.rows
    delay = (rows["recorded_at"] - rows["scored_at"]).dt.total_seconds() / 86_400.0
    late = float((delay > LATE_DAYS).mean())
    on = rows["recorded_at"].dt.normalize()
    at_once = float(on.value_counts(normalize=True).max())
    wide = (rows["scored_at"].max() - rows["scored_at"].min()).days > BULK_SPAN_DAYS
    if at_once > BULK_SHARE and wide:
        words = f"{percent(at_once)} of the history was written on one day, {day(on.mode()[0])}"
        return check("written_late", title, False, words)
    words = f"{percent(late)} of rows were written more than {LATE_DAYS:.0f} days after their date"
    return check("written_late", title, late <= LATE_SHARE, words)


def _rewritten(history: ScoreRows, lost: pd.Series, changed: pd.DataFrame | None) -> CheckContent:
    title = "no score was rewritten after the decision it should predict"
    if not history.has_recorded and changed is None:
        words = "there is neither a time of writing nor an earlier recording"
        return check("rewritten", title, None, words)
    touched = _rewritten_accounts(history, lost)
    if changed is not None:
        before = changed["scored_at"] < changed["entity_id"].map(lost)
        touched |= set(changed.loc[before, "entity_id"])
    part = len(touched) / max(len(lost), 1)
    words = (
        f"{count(len(touched))} of {plural(len(lost), 'lost account')} have scores dated before "
        "the "
        "decision that were written or changed after it"
    )
    if changed is not None and len(changed):
        words += f"; {plural(len(changed), 'score')} differ from the earlier recording"
    return check("rewritten", title, part <= REWRITTEN_SHARE or len(touched) < 3, words)


def _rewritten_accounts(history: ScoreRows, lost: pd.Series) -> set[str]:
    if not history.has_recorded:
        return set()
    rows = history.rows
    decided = rows["entity_id"].map(lost)
    after = (rows["scored_at"] < decided) & (
        rows["recorded_at"] > decided + pd.Timedelta(days=LATE_DAYS)
    )
    return set(rows.loc[after, "entity_id"])


def _unchanged_scores(rows: pd.DataFrame) -> CheckContent:
    title = "scores change over time; they are not today's score copied to the past"
    spread = rows.groupby("entity_id")["risk"].agg(["nunique", "size"])
    long = spread[spread["size"] >= COPIED_MOMENTS]
    if len(long) < MIN_SLICE_EVENTS:
        return check("copied", title, None, "too few accounts with a long history")
    still = float((long["nunique"] == 1).mean())
    words = f"{percent(still)} of accounts with {COPIED_MOMENTS} or more scores never changed"
    return check("copied", title, still < COPIED_SHARE, words)


def _falls_on_decision_day(rows: pd.DataFrame, lost: pd.Series) -> CheckContent:
    """Check for falls to the worst score on the day of the decision or the day before."""
    title = "no score falls to its worst on the day of the decision"
    if len(lost) < MIN_SLICE_EVENTS:
        return check("stamped", title, None, f"only {plural(len(lost), 'loss')}")
    ordered = rows.sort_values(["entity_id", "scored_at"])
    worst = ordered["risk"] >= ordered["risk"].quantile(0.95)
    if (ordered["level"] >= 0).all():
        worst = ordered["level"] == ordered["level"].max()
    same = ordered["entity_id"] == ordered["entity_id"].shift()
    falls = worst & same & ~worst.shift(fill_value=False)
    since = (ordered["scored_at"] - ordered["entity_id"].map(lost)).dt.total_seconds() / 86_400.0
    # On days on which all accounts are scored, a fall may meet a decision by chance.
    day = ordered["scored_at"].dt.normalize()
    scored = ordered.groupby(day)["entity_id"].nunique() / ordered["entity_id"].nunique()
    is_usual = day.map(scored) >= ON_SCHEDULE
    on_day = falls & ~is_usual & (since > -1.0) & (since <= 1.0)
    stamped = int(ordered.loc[on_day, "entity_id"].nunique())
    words = (
        f"{count(stamped)} of {plural(len(lost), 'lost account')} fell to the worst on the day of "
        "the decision"
    )
    is_few = stamped < STAMPED_LEAST or stamped / len(lost) < STAMPED_SHARE
    return check("stamped", title, is_few, words)


def _missing_accounts(rows: pd.DataFrame, lost: pd.Series, span: PanelSpan) -> CheckContent:
    title = "accounts that left are still in the history"
    inside = lost[(lost > span.first + pd.Timedelta(days=31)) & (lost <= span.through)]
    if len(inside) < MIN_SLICE_EVENTS:
        return check(
            "purged", title, None, f"only {plural(len(inside), 'loss')} within the scored time"
        )
    absent = int((~inside.index.isin(set(rows["entity_id"]))).sum())
    words = f"{count(absent)} of {plural(len(inside), 'loss')} have no score in the file"
    return check("purged", title, absent / len(inside) <= PURGED_SHARE, words)


def ranking_checks(rows: pd.DataFrame, ever: set[str], drawing: Drawing) -> list[CheckContent]:
    """Return the checks on labelled rows: AUC jump before decisions, values of lost accounts only.

    Parameters
    ----------
    rows : pandas.DataFrame
        The monthly panel of one outcome, with risk.
    ever : set of str
        Accounts that had the event at any time.
    drawing : Drawing
        Bootstrap of the interval.
    """
    lead = (rows["decision_at"] - rows["as_of"]).dt.total_seconds() / 86_400.0
    return [_auc_jump(rows, lead, drawing), _values_of_lost_accounts(rows, ever, lead)]


def _auc_jump(rows: pd.DataFrame, lead: pd.Series, drawing: Drawing) -> CheckContent:
    title = "no jump of the AUC just before the decision"
    happened = rows["label"] == 1
    near = rows[happened & (lead <= NEAR_DAYS)].drop_duplicates(["entity_id", "fold"])
    far = rows[happened & (lead > NEAR_DAYS)].drop_duplicates(["entity_id", "fold"])
    stayed = rows[rows["is_headline"] & ~happened]
    if min(len(near), len(far), len(stayed)) < MIN_SLICE_EVENTS:
        return check("cliff", title, None, "too few events near and far from the decision")
    pooled = pd.concat([near, far, stayed], ignore_index=True)
    sample = ranked_by_risk(pooled)
    counted = np.ones((2, len(pooled)))
    counted[0, len(near) : len(near) + len(far)] = 0.0
    counted[1, : len(near)] = 0.0

    def rise(drawn: Sample, weights: np.ndarray) -> np.ndarray:
        return auc(drawn, weights * counted[0]) - auc(drawn, weights * counted[1])

    drawn = bootstrap(sample, {"rise": rise}, draws=drawing.draws, seed=drawing.seed)["rise"]
    found = estimate(drawn)
    words = (
        f"AUC rises by {estimated(found.as_dict(), 'signed')} in the last {NEAR_DAYS} days before "
        "the decision"
    )
    return check("cliff", title, (found.low or 0.0) <= CLIFF, words)


def _values_of_lost_accounts(rows: pd.DataFrame, ever: set[str], lead: pd.Series) -> CheckContent:
    """Check for a value that lost accounts had long before they left and no other account had."""
    title = "no value is reserved for lost accounts"
    left = rows[(rows["label"] == 1) & (lead >= KEPT_LEAD_DAYS)]
    stayed = set(rows.loc[~rows["entity_id"].isin(ever), "risk"].unique())
    if left["entity_id"].nunique() < MIN_SLICE_EVENTS:
        return check("only_leavers", title, None, "too few losses")
    own_values = left[~left["risk"].isin(stayed)]
    shared = own_values.groupby("risk")["entity_id"].nunique()
    shared = shared[shared >= KEPT_LEAST]
    carried = int(own_values.loc[own_values["risk"].isin(shared.index), "entity_id"].nunique())
    total = int(left["entity_id"].nunique())
    words = (
        f"{count(carried)} of {plural(total, 'lost account')} had, {KEPT_LEAD_DAYS} days or "
        "more before the decision, a value that no other account ever had"
    )
    return check("only_leavers", title, carried / total < KEPT_SHARE, words)
