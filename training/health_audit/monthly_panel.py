"""Monthly panel of a score: each account at each month start, as known then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.formatting import count, day, listing, plural
from training.health_audit.history import COMPONENT, DAY, Note, OutcomeRows, ScoreRows
from training.health_audit.options import AuditOptions
from training.health_audit.score_direction import ScoreDirection
from training.model.pooled_rates import PooledRates, calendar_cells

LEAST_STALE, MOST_STALE = 45.0, 200.0
"""Smallest and largest age in days at which a score expires."""

SURPRISE = 0.01
"""Probability of a silence below which the outcomes count as incomplete."""

HOLLOW = 0.5
"""Share of the usual number of scores below which a month counts as a gap."""

FIFTHS = ("best fifth", "second fifth", "middle fifth", "fourth fifth", "worst fifth")


@dataclass(frozen=True)
class PanelSpan:
    """The time that can be evaluated.

    Attributes
    ----------
    first, last : pandas.Timestamp
        Start and end of the scores.
    through : pandas.Timestamp
        End of complete outcomes.
    stale_days : float
        Age at which a score expires.
    notes : tuple of Note
        Gaps and early ends.
    """

    first: pd.Timestamp
    last: pd.Timestamp
    through: pd.Timestamp
    stale_days: float
    notes: tuple[Note, ...] = ()


def span_of(history: ScoreRows, outcomes: OutcomeRows, options: AuditOptions) -> PanelSpan:
    """Return the time that can be evaluated, with notes."""
    rows = history.rows
    first, last = rows["known_at"].min(), rows["known_at"].max()
    notes = [*_gaps(rows)]
    through, words = _through(outcomes.rows["decision_at"], first, last, options)
    if words:
        notes.append(Note("outcomes_end", words, "warning"))
    return PanelSpan(first, last, through, _stale_days(rows), tuple(notes))


def _stale_days(rows: pd.DataFrame) -> float:
    steps = rows.drop_duplicates(["entity_id", "scored_at"])
    gaps = steps["scored_at"].diff()[steps["entity_id"] == steps["entity_id"].shift()]
    seconds = pd.to_timedelta(gaps).dt.total_seconds()
    usual = float(seconds.median()) / 86_400.0 if len(gaps) else np.nan
    return float(np.clip(1.5 * usual, LEAST_STALE, MOST_STALE)) if usual == usual else LEAST_STALE


def _gaps(rows: pd.DataFrame) -> list[Note]:
    """Return a note on months with far fewer scored accounts than their neighbours."""
    month = rows["scored_at"].dt.tz_localize(None).dt.to_period("M")
    accounts = rows.groupby(month)["entity_id"].nunique()
    every = pd.period_range(month.min(), month.max(), freq="M")
    accounts = accounts.reindex(every, fill_value=0)
    usual = accounts.where(accounts > 0).rolling(13, center=True, min_periods=1).median()
    scored = accounts > 0
    step = int(np.median(np.diff(np.flatnonzero(scored)))) if scored.sum() > 1 else 1
    hollow = accounts[(accounts < HOLLOW * usual)]
    if step > 1 or hollow.empty:
        return []
    named = [period.to_timestamp() for period in hollow.index]
    words = listing([f"{at:%b %Y}" for at in named[:6]])
    return [Note("gaps", f"few or no scores in {words}: {plural(len(named), 'month')} with less "
                 "than half of the usual accounts", "warning")]  # fmt: skip


def _through(
    decided: pd.Series, first: pd.Timestamp, last: pd.Timestamp, options: AuditOptions
) -> tuple[pd.Timestamp, str]:
    """Return the end of complete outcomes, with a note if they end early."""
    if options.through is not None:
        return pd.Timestamp(options.through, tz="UTC") + DAY, ""
    end = decided.max() + DAY
    if end >= last:
        return min(end, pd.Timestamp(options.now).as_unit("us")), ""
    inside = decided[(decided >= first) & (decided < last)]
    days = max((end - first).total_seconds() / 86_400.0, 1.0)
    silent = (last - end).total_seconds() / 86_400.0
    expected = len(inside) / days * silent
    if np.exp(-expected) >= SURPRISE:
        return last, ""
    return end, (
        f"outcomes stop on {day(decided.max())} but scores continue to {day(last)}; at the earlier "
        f"rate about {count(expected)} more outcomes would be expected. They count as not yet "
        "recorded, so the time since then is not tested; set --through DATE to change this"
    )


def grid_of(
    ordered: ScoreDirection,
    outcomes: OutcomeRows,
    span: PanelSpan,
    kind: str,
    options: AuditOptions,
) -> tuple[pd.DataFrame, list[dict[str, object]]]:
    """Return the rows to evaluate a score on, for one kind of outcome, and the row counts.

    Returns
    -------
    rows : pandas.DataFrame
        One row per account and month start with a completely observed window: entity_id, as_of,
        fold (number of its quarter), is_headline, is_newcomer, label, label_known_at,
        decision_at, arr, segment, is_under_contract, days_to_renewal, risk, level, score_age_days,
        and the components.
    flow : list of dict
        step, words, rows: the number of rows left out by reason.

    Raises
    ------
    DataError
        No label window is completely observed.
    """
    horizon = pd.Timedelta(days=options.horizon_days)
    moments = _moments(span)
    whole = scores_as_known(ordered.rows, _every(ordered.rows, moments), span.stale_days)
    whole = _with_label(whole, outcomes.rows, kind, horizon)
    if ordered.rows[["arr", "currency"]].isna().all(axis=None):
        whole["arr"] = whole["event_arr"]
    flow = [_row_count("whole", "every account since its first score, at every month start", whole)]
    reasons = {
        "no score, or an expired score": whole["risk"].isna(),
        "already left": whole["is_gone"],
        "left earlier for another reason": whole["is_gone_otherwise"],
        "window not yet observed": whole["as_of"] + horizon > span.through,
    }
    out = pd.Series(False, index=whole.index)
    for words, mask in reasons.items():
        if (mask & ~out).any():
            flow.append(_row_count("excluded", words, whole[mask & ~out]))
        out |= mask
    rows = whole[~out].reset_index(drop=True)
    flow.append(_row_count("used", "used", rows))
    if rows.empty:
        raise DataError(
            "no score has a completely observed label window after it",
            where=f"scores from {span.first:%Y-%m-%d} to {span.last:%Y-%m-%d}, outcomes to "
            f"{span.through:%Y-%m-%d}, horizon {options.horizon_days} days",
            fix="provide a longer history or a shorter --horizon",
        )
    return _finished(rows, ordered, horizon), flow


def _moments(span: PanelSpan) -> pd.DatetimeIndex:
    start = span.first.normalize() + pd.offsets.MonthBegin(0)
    start = start if start >= span.first else start + pd.offsets.MonthBegin(1)
    return pd.date_range(start, max(span.last, start), freq="MS").as_unit("us")


def _every(rows: pd.DataFrame, moments: pd.DatetimeIndex) -> pd.DataFrame:
    first = rows.groupby("entity_id")["known_at"].min()
    grid = pd.MultiIndex.from_product([moments, first.index], names=["as_of", "entity_id"])
    table = grid.to_frame(index=False)
    return table[table["as_of"] >= table["entity_id"].map(first)].reset_index(drop=True)


def scores_as_known(rows: pd.DataFrame, asked_for: pd.DataFrame, stale_days: float) -> pd.DataFrame:
    """Return the last score known at as_of, per (entity_id, as_of).

    Scores older than `stale_days` count as missing.
    """
    parts = [name for name in rows if str(name).startswith(COMPONENT)]
    kept = ["entity_id", "known_at", "scored_at", "risk", "level", "arr", "segment", "renews_at"]
    ranked = rows.sort_values(["known_at", "scored_at"], kind="stable")[kept + parts]
    # A version written later for an earlier day does not hide the newer day's score.
    newest = ranked.groupby("entity_id")["scored_at"].cummax()
    ranked = ranked[ranked["scored_at"] >= newest]
    order = asked_for.assign(
        _row=np.arange(len(asked_for)), as_of=asked_for["as_of"].astype("datetime64[us, UTC]")
    ).sort_values("as_of", kind="stable")
    found = pd.merge_asof(
        order,
        ranked,
        left_on="as_of",
        right_on="known_at",
        by="entity_id",
        tolerance=pd.Timedelta(days=stale_days),
    )
    return found.sort_values("_row", ignore_index=True).drop(columns="_row")


def _with_label(
    rows: pd.DataFrame, outcomes: pd.DataFrame, kind: str, horizon: pd.Timedelta
) -> pd.DataFrame:
    """Add the next decision of a kind, the label, and the accounts that had left."""
    left = outcomes[outcomes["kind"] == "churn"].groupby("entity_id")["decision_at"].min()
    gone_at = rows["entity_id"].map(left)
    events = outcomes.loc[outcomes["kind"] == kind, ["entity_id", "decision_at", "arr"]]
    if kind == "churn":
        events = events.drop_duplicates("entity_id")
    ordered = rows.assign(_row=np.arange(len(rows))).sort_values("as_of", kind="stable")
    joined = pd.merge_asof(
        ordered,
        events.rename(columns={"arr": "event_arr"}).sort_values("decision_at"),
        left_on="as_of",
        right_on="decision_at",
        by="entity_id",
        direction="forward",
        allow_exact_matches=False,
    ).sort_values("_row", ignore_index=True)
    label = joined["decision_at"] <= joined["as_of"] + horizon
    joined["label"] = label.astype("int8")
    joined["decision_at"] = joined["decision_at"].where(label)
    joined["is_gone"] = gone_at <= rows["as_of"]
    # Accounts that leave within the window have no label for growth.
    other = (kind != "churn") & (gone_at <= rows["as_of"] + horizon) & ~label
    joined["is_gone_otherwise"] = other & ~joined["is_gone"]
    return joined.drop(columns="_row")


def _row_count(step: str, words: str, rows: pd.DataFrame) -> dict[str, object]:
    return {"step": step, "words": words, "rows": len(rows)}


def _finished(rows: pd.DataFrame, ordered: ScoreDirection, horizon: pd.Timedelta) -> pd.DataFrame:
    """Add quarters, headline rows, calendar and comparison probabilities."""
    rows = rows.sort_values(["as_of", "entity_id"], ignore_index=True)
    quarter = rows["as_of"].dt.tz_localize(None).dt.to_period("Q")
    rows["quarter"] = quarter.astype(str)
    rows["fold"] = quarter.rank(method="dense").astype("int64")
    rows["is_headline"] = ~rows.duplicated(["entity_id", "fold"])
    rows["is_newcomer"] = ~rows.duplicated("entity_id")
    rows["label_known_at"] = rows["as_of"] + horizon
    rows["segment"] = rows["segment"].fillna("unknown")
    rows["is_under_contract"] = rows["renews_at"].notna()
    days = (rows["renews_at"] - rows["as_of"]).dt.total_seconds() / 86_400.0
    rows["days_to_renewal"] = days.where(days >= 0)
    rows["score_age_days"] = (rows["as_of"] - rows["scored_at"]).dt.total_seconds() / 86_400.0
    rows["p_model"] = rows["risk"] if ordered.is_probability else unit(rows["risk"])
    rows["p_constant"] = float(rows.loc[rows["is_headline"], "label"].mean())
    if rows["is_under_contract"].any():
        rows["p_calendar"] = elsewhere(rows, _calendar)
    return rows


def unit(values: pd.Series) -> pd.Series:
    """Return numbers mapped to (0, 1) in rank order, for ranking only."""
    span = float(values.max() - values.min()) or 1.0
    return 0.01 + 0.98 * (values - values.min()) / span


Rule = Callable[[pd.DataFrame], Callable[[pd.DataFrame], np.ndarray]]
"""Fits on some rows and returns a scorer for others."""


def elsewhere(rows: pd.DataFrame, fit: Rule) -> np.ndarray:
    """Return the scores of a rule for each quarter, fitted on all other quarters.

    Fitting on later quarters favours the comparison, never the score under audit.
    """
    p = np.empty(len(rows))
    for number in rows["fold"].unique():
        here = (rows["fold"] == number).to_numpy()
        training_rows = rows[~here] if not here.all() else rows
        p[here] = fit(training_rows)(rows[here])
    return p


def _calendar(training_rows: pd.DataFrame) -> Callable[[pd.DataFrame], np.ndarray]:
    rates = PooledRates.fit(
        calendar_cells(training_rows), training_rows["label"].to_numpy(dtype=np.float64)
    )
    return lambda rows: rates(calendar_cells(rows))


def bands_of(rows: pd.DataFrame, bands: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the band of each row and all band names, in ascending order of risk.

    A score without bands is cut into fifths of the headline rows.
    """
    if bands and (rows["level"] >= 0).all():
        return np.array(bands, dtype=object)[rows["level"].astype("int64").to_numpy()], tuple(bands)
    risk = rows["risk"].to_numpy(dtype=np.float64)
    first = risk[rows["is_headline"].to_numpy()]
    cuts = np.unique(np.quantile(first, [0.2, 0.4, 0.6, 0.8]))
    cuts = cuts[cuts > first.min()]
    names = FIFTHS[: len(cuts)] + FIFTHS[-1:] if len(cuts) < len(FIFTHS) - 1 else FIFTHS
    return np.array(names, dtype=object)[np.searchsorted(cuts, risk, side="right")], tuple(names)
