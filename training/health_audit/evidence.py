"""Evidence of the audit for one kind of outcome, as plain content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from training.data.splits import count_events
from training.evaluation.alert_list import on_the_list, summary_of_leads
from training.evaluation.evaluate import evaluate
from training.evaluation.metrics import MEASURES, Measure, auc, bootstrap, estimate, logistic_fit
from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL, Drawing, sample_of
from training.health_audit.history import COMPONENT, OutcomeRows
from training.health_audit.integrity import ranked_by_risk, ranking_checks
from training.health_audit.monthly_panel import (
    PanelSpan,
    bands_of,
    elsewhere,
    grid_of,
    scores_as_known,
    unit,
)
from training.health_audit.options import AuditOptions
from training.health_audit.score_direction import ScoreDirection
from training.report.decision_curve import decision_curve, profit_grid
from training.reporting.report_text import OutcomeText, outcome_of
from training.validation import score_evidence
from training.validation.content_types import CheckContent
from training.validation.early_warning import (
    LAST_DAYS,
    LEADS,
    first_alert_days,
    starts_of_alerts,
    warned,
)
from training.validation.score_components import components_of
from training.validation.side_by_side import side_by_side
from training.validation.verdict import (
    Criterion,
    PassMarks,
    band_criteria,
    calibration_criteria,
    lead_criteria,
    leakage_criteria,
    ranking_criteria,
    sample_criteria,
    verdict,
)

LEAD_LIMIT = 180
"""Days before the decision within which an entry on the list counts as a warning."""

TITLES: Mapping[str, str] = {
    MODEL: "The score",
    "best_feature": "Best single component",
    "calendar": "Calendar only",
    "constant": "Same rate for all",
}
NOTES: Mapping[str, str] = {
    MODEL: "as known at the time",
    "best_feature": "the component with the best AUC in the other quarters",
    "calendar": "only days to renewal and segment, fitted on all other quarters",
    "constant": "no score",
}

RANKING: Mapping[str, Measure] = {
    name: measure
    for name, measure in MEASURES.items()
    if name.startswith("auc") or "capacity" in name
}
"""Criteria for a score that is not a probability."""

NOT_MEASURED = {
    name: {"value": None, "low": None, "high": None}
    for name in ("observed_to_expected", "calibration_slope", "brier_skill")
}

Plain = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class AuditEvidence:
    """Prepared scores and outcomes.

    Attributes
    ----------
    ordered : ScoreDirection
        Scores with direction and band order.
    outcomes : OutcomeRows
        Decisions.
    span : PanelSpan
        The time that can be evaluated.
    components : tuple of str
        Components of the score.
    checks : sequence of dict
        Integrity checks on the history.
    """

    ordered: ScoreDirection
    outcomes: OutcomeRows
    span: PanelSpan
    components: tuple[str, ...]
    checks: Sequence[CheckContent]


def evidence_of(
    evidence: AuditEvidence, kind: str, options: AuditOptions, marks: PassMarks, progress: Progress
) -> Plain:
    """Return the report content on one kind of outcome.

    Parameters
    ----------
    evidence : AuditEvidence
        Prepared scores and outcomes.
    kind : str
        churn, contraction or expansion.
    options : AuditOptions
        Options.
    marks : PassMarks
        Thresholds of the verdict.
    progress : callable
        Receives progress messages.

    Raises
    ------
    DataError
        No label window is completely observed.
    """
    outcome = outcome_of(kind)
    evidence = oriented(evidence, outcome)
    rows, flow = grid_of(evidence.ordered, evidence.outcomes, evidence.span, kind, options)
    drawing = audit_bootstrap(rows, options)
    if evidence.components:
        rows["p_best_feature"] = elsewhere(rows, _best_part(evidence.components))
    first = score_evidence.headline(rows)
    n_events = count_events(first)
    base: Plain = {
        "target": kind,
        "outcome": kind,
        "horizon_days": options.horizon_days,
        "flow": flow,
        "test": _test(rows, first, n_events, drawing),
    }
    if min(first["label"].sum(), len(first) - first["label"].sum()) < 2:
        return base | _nothing(evidence, rows, n_events, marks, outcome)
    progress(f"{kind}: {len(first):,} account-quarters, {n_events:,} events")
    return base | _measured(evidence, rows, first, drawing, options, marks, outcome, progress)


def oriented(evidence: AuditEvidence, outcome: OutcomeText) -> AuditEvidence:
    """Return the scores with higher meaning a likelier outcome; reversed for growth."""
    if not outcome.is_growth:
        return evidence
    ordered = evidence.ordered
    rows = ordered.rows.assign(risk=-ordered.rows["risk"])
    top = len(ordered.bands) - 1
    rows["level"] = rows["level"].where(rows["level"] < 0, top - rows["level"])
    turned_round = replace(
        ordered, rows=rows, bands=tuple(reversed(ordered.bands)), is_probability=False
    )
    return replace(evidence, ordered=turned_round)


def audit_bootstrap(rows: pd.DataFrame, options: AuditOptions) -> Drawing:
    """Return bootstrap and capacity; the default capacity is 5 % of accounts a month."""
    usual = rows.groupby("as_of").size().median()
    capacity = options.capacity_per_month or max(1, round(0.05 * float(usual)))
    return Drawing(options.draws, options.seed, int(capacity), 91)


def _best_part(names: Sequence[str]) -> Callable[[pd.DataFrame], Callable[..., np.ndarray]]:
    """Return a rule that uses only the component with the best AUC in the training quarters."""

    def fit(training_rows: pd.DataFrame) -> Callable[..., np.ndarray]:
        found = [_signed_area(training_rows, COMPONENT + name) for name in names]
        area, sign, column = max(found, key=lambda item: item[0])
        del area
        typical = float(training_rows[column].median())
        low, high = training_rows[column].min(), training_rows[column].max()
        reach = float(high - low) or 1.0

        def score(rows: pd.DataFrame) -> np.ndarray:
            part = (rows[column].fillna(typical) - low) / reach
            p: np.ndarray = np.clip(0.01 + 0.98 * (part if sign > 0 else 1.0 - part), 0.001, 0.999)
            return np.asarray(p, dtype=np.float64)

        return score

    return fit


def _signed_area(rows: pd.DataFrame, column: str) -> tuple[float, int, str]:
    known = rows[rows[column].notna() & rows["is_headline"]]
    label = known["label"].to_numpy(dtype=np.float64)
    if len(known) == 0 or label.sum() in (0, len(label)):
        return 0.0, 1, column
    ranks = known[column].rank().to_numpy()
    n = label.sum()
    area = (ranks[label == 1].sum() - n * (n + 1) / 2) / (n * (len(label) - n))
    return max(area, 1 - area), (1 if area >= 0.5 else -1), column


def _test(rows: pd.DataFrame, first: pd.DataFrame, n_events: int, drawing: Drawing) -> Plain:
    return {
        "rows": len(first),
        "entities": int(first["entity_id"].nunique()),
        "event_rows": int(first["label"].sum()),
        "events": n_events,
        "base_rate": float(first["label"].mean()),
        "capacity": {
            "per_month": drawing.capacity_per_month,
            "per_fold": drawing.capacity_per_fold,
        },
        "over": "time",
        "folds": _n_folds(first),
        "from": rows["as_of"].min(),
        "until": rows["label_known_at"].max(),
    }


def _n_folds(first: pd.DataFrame) -> int:
    """Return the number of quarters with both outcomes."""
    return int((first.groupby("fold")["label"].nunique() == 2).sum())


def _nothing(
    evidence: AuditEvidence,
    rows: pd.DataFrame,
    n_events: int,
    marks: PassMarks,
    outcome: OutcomeText,
) -> Plain:
    """Return the content with fewer than two events: a verdict without measures."""
    blank = {"value": None, "low": None, "high": None}
    criteria = [
        *sample_criteria(_n_folds(score_evidence.headline(rows)), n_events, marks),
        *ranking_criteria(
            {"auc": blank, "lift_at_capacity": blank},
            {"difference": blank, "at": "any time"},
            marks,
        ),
        *leakage_criteria(None, list(evidence.checks), marks),
    ]
    return {
        "verdict": verdict(criteria, outcome).as_dict(),
        "criteria": [item.as_dict() for item in criteria],
        "checks": list(evidence.checks),
        "is_measured": False,
    }


def _measured(
    evidence: AuditEvidence,
    rows: pd.DataFrame,
    first: pd.DataFrame,
    drawing: Drawing,
    options: AuditOptions,
    marks: PassMarks,
    outcome: OutcomeText,
    progress: Progress,
) -> Plain:
    names = [name for name in TITLES if f"p_{name}" in rows]
    bands, order = bands_of(rows, evidence.ordered.bands)
    own = bands[rows["is_headline"].to_numpy()]
    progress(f"{outcome.noun}: ranking, by quarter, segment and lead time")
    found = evaluate(
        rows,
        _folds(first),
        drawing,
        target=outcome.noun,
        over="time",
        measures=MEASURES if evidence.ordered.is_probability else RANKING,
    ).as_dict()
    measures = NOT_MEASURED | found["models"][MODEL]
    events = evidence.outcomes.rows
    ever = set(events.loc[events["kind"] == outcome.noun, "entity_id"])
    checks = [*evidence.checks, *ranking_checks(rows, ever, drawing)]
    table = score_evidence.band_table(first, own, drawing, order)
    lead = first_warnings(evidence, rows, names, outcome, drawing)
    calendar = _calendar(rows, names, drawing)
    criteria = _criteria(
        measures, calendar, table, lead, checks, first, evidence, options, marks, outcome
    )
    progress(f"{outcome.noun}: comparison of scores, and value")
    return {
        "verdict": verdict(criteria, outcome).as_dict(),
        "criteria": [item.as_dict() for item in criteria],
        "checks": checks,
        "is_measured": True,
        "models": _models(found, names),
        "side_by_side": side_by_side(first, names, drawing),
        "folds": _quarters(first, names, rows, drawing),
        "leads": leads(evidence, rows, outcome, drawing),
        "lead": lead,
        "bands": table,
        "order": list(order),
        "has_bands": bool(evidence.ordered.bands),
        "missed": score_evidence.missed_events(first, own, order[0]),
        "calibration": _calibration(found) if evidence.ordered.is_probability else None,
        "slices": {"segments": found["segments"], "contracts": found["contracts"]},
        "warned": would_have_warned(evidence, rows, bands, order, options, outcome),
        "value": _value(first, drawing),
        "components": _components(evidence, first, drawing),
    }


def _folds(first: pd.DataFrame) -> pd.DataFrame:
    table = first.groupby("fold").agg(
        cutoff=("as_of", "min"), quarter=("quarter", "first"), n_headline=("label", "size"),
        n_headline_events=("label", "sum"),
    )  # fmt: skip
    return table.reset_index()


def _calendar(rows: pd.DataFrame, names: Sequence[str], drawing: Drawing) -> Plain:
    if "calendar" not in names:
        nothing = {"value": None, "low": None, "high": None}
        return {"difference": nothing, "events": 0, "at": "any time"}
    return score_evidence.calendar_gain(rows, drawing)


def _criteria(
    measures: Plain,
    calendar: Plain,
    bands: Plain,
    lead: Plain,
    checks: Sequence[CheckContent],
    first: pd.DataFrame,
    evidence: AuditEvidence,
    options: AuditOptions,
    marks: PassMarks,
    outcome: OutcomeText,
) -> list[Criterion]:
    ranking = ranking_criteria(measures, calendar, marks)
    if not options.has_contracts:
        ranking = [_without(item, "month to month") if item.code == "calendar" else item
                   for item in ranking]  # fmt: skip
    calibration = calibration_criteria(measures, marks)
    if not evidence.ordered.is_probability:
        calibration = [_without(item, "the score is not a probability") for item in calibration]
    renews = bool(first["is_under_contract"].any()) and outcome.noun == "churn"
    return [
        *sample_criteria(_n_folds(first), count_events(first), marks),
        *ranking,
        *band_criteria(bands, marks),
        *calibration,
        *lead_criteria(lead, marks, applies=renews,
                       why_not="there are no renewal dates"),
        *leakage_criteria(measures["auc"], list(checks), marks),
    ]  # fmt: skip


def _without(item: Criterion, words: str) -> Criterion:
    return replace(item, found=words, status="does not apply", value=None, low=None, high=None)


def _models(found: Plain, names: Sequence[str]) -> list[Plain]:
    shown = (
        "auc",
        "auc_pooled",
        "lift_at_capacity",
        "capture_at_capacity",
        "arr_capture_at_capacity",
    )
    return [
        {
            "name": name,
            "title": TITLES[name],
            "note": NOTES[name],
            "difference": found["differences"].get(name, {}).get("auc"),
            **{measure: found["models"][name][measure] for measure in shown},
        }
        for name in names
    ]


def _quarters(
    first: pd.DataFrame, names: Sequence[str], rows: pd.DataFrame, drawing: Drawing
) -> list[Plain]:
    named = dict(zip(first["fold"], first["quarter"], strict=True))
    return [
        {**item, "quarter": named[item["fold"]]}
        for item in score_evidence.fold_aucs(rows, names, drawing)
        if item["events"]
    ]


def leads(
    evidence: AuditEvidence, rows: pd.DataFrame, outcome: OutcomeText, drawing: Drawing
) -> list[Plain]:
    """Return the AUC of the last score known 180, 90, 60 and 30 days before each decision.

    The controls are accounts without the event, once per quarter; pairs are within the quarter of
    the score.

    Returns
    -------
    list of dict
        lead_days; events (with a score then), unscored (without one); auc where there are enough.
    """
    decided = _decided(evidence, rows, outcome)
    stayed = rows[rows["is_headline"] & (rows["label"] == 0)]
    quarter = dict(zip(rows["quarter"], rows["fold"], strict=True))
    table = []
    for days in LEADS:
        options = decided[["entity_id"]].assign(
            as_of=decided["decision_at"] - pd.Timedelta(days=days)
        )
        then = scores_as_known(evidence.ordered.rows, options, evidence.span.stale_days)
        then["fold"] = then["as_of"].dt.tz_localize(None).dt.to_period("Q").astype(str).map(quarter)
        scored = then[then["risk"].notna() & then["fold"].notna()]
        entry: Plain = {"lead_days": days, "events": len(scored),
                        "unscored": int(then["risk"].isna().sum())}  # fmt: skip
        if min(len(scored), len(stayed)) >= MIN_SLICE_EVENTS:
            entry["auc"] = {MODEL: _area(scored, stayed, drawing)}
        table.append(entry)
    return table


def first_warnings(
    evidence: AuditEvidence,
    rows: pd.DataFrame,
    names: Sequence[str],
    outcome: OutcomeText,
    drawing: Drawing,
) -> Plain:
    """Return the days from the first entry on the team's list to each decision.

    Entries within `LEAD_LIMIT` days count; see `training.evaluation.alert_list.summary_of_leads`.
    """
    decided = _decided(evidence, rows, outcome).reset_index(drop=True)
    found = {}
    for name in names:
        if name not in (MODEL, "calendar"):
            continue
        listed = on_the_list(rows, name, drawing)
        found[name] = first_alert_days(decided, listed, within=LEAD_LIMIT)
    return summary_of_leads(found, decided, drawing) | {"limit_days": LEAD_LIMIT}


def _decided(evidence: AuditEvidence, rows: pd.DataFrame, outcome: OutcomeText) -> pd.DataFrame:
    """Return the decisions within the tested time, one per account and decision."""
    events = evidence.outcomes.rows
    events = events[events["kind"] == outcome.noun]
    start, end = rows["as_of"].min(), evidence.span.through
    inside = events[(events["decision_at"] > start) & (events["decision_at"] <= end)]
    known = inside["entity_id"].isin(set(evidence.ordered.rows["entity_id"]))
    found = inside[known]
    return found.drop_duplicates("entity_id") if outcome.noun == "churn" else found


def _area(scored: pd.DataFrame, stayed: pd.DataFrame, drawing: Drawing) -> Plain:
    pooled = pd.concat([scored.assign(label=1.0), stayed], ignore_index=True)
    sample = ranked_by_risk(pooled)
    drawn = bootstrap(sample, {"auc": auc}, draws=drawing.draws, seed=drawing.seed)
    return estimate(drawn["auc"]).as_dict()


def _calibration(found: Plain) -> Plain:
    kept = ("observed_to_expected", "calibration_slope", "calibration_intercept", "brier",
            "brier_skill")  # fmt: skip
    measures = found["models"][MODEL]
    return {"bins": found["reliability"], "after": {name: measures[name] for name in kept}}


def would_have_warned(
    evidence: AuditEvidence,
    rows: pd.DataFrame,
    bands: np.ndarray,
    order: Sequence[str],
    options: AuditOptions,
    outcome: OutcomeText,
) -> Plain:
    """Return every loss of the last four quarters with the scores before it."""
    decided = _decided(evidence, rows, outcome)
    arr = rows.drop_duplicates("entity_id", keep="last").set_index("entity_id")["arr"]
    decided = decided.assign(arr=decided["arr"].fillna(decided["entity_id"].map(arr)))
    raised = bands == order[-1]
    scores = evidence.ordered.rows
    names = np.array([*evidence.ordered.bands, ""], dtype=object)

    def as_of(moments: pd.DataFrame) -> pd.DataFrame:
        then = scores_as_known(scores, moments, evidence.span.stale_days)
        level = then["level"].fillna(-1).astype("int64").to_numpy()
        shown = then["risk"] if evidence.ordered.higher == "riskier" else -then["risk"]
        shown = -shown if outcome.is_growth else shown
        has_number = bool(evidence.ordered.rows["score"].notna().any())
        return pd.DataFrame(
            {
                "score": shown if has_number else np.nan,
                "band": np.where(level >= 0, names[level], ""),
            }
        )

    return warned(
        decided,
        {MODEL: starts_of_alerts(rows, raised)},
        as_of,
        ["score", "band"],
        until=evidence.span.through,
        resolved_days=options.horizon_days,
    ) | {"raised": order[-1], "days": LAST_DAYS}


def _value(first: pd.DataFrame, drawing: Drawing) -> Plain:
    label = first["label"].to_numpy(dtype=np.float64)
    p = elsewhere(first, _fitted)
    sample = sample_of(first, MODEL, drawing.capacity_per_fold)
    years = first["fold"].nunique() * 91.3125 / 365.25
    return {
        "curve": decision_curve(label, p),
        "profit": profit_grid(sample, years, bool(first["arr"].notna().any())),
    }


def _fitted(training_rows: pd.DataFrame) -> Callable[[pd.DataFrame], np.ndarray]:
    """Return a logistic calibration of the score."""
    label = training_rows["label"].to_numpy(dtype=np.float64)
    risk = training_rows["risk"].to_numpy(dtype=np.float64)
    rate = float(np.clip(label.mean(), 1e-6, 1 - 1e-6))
    a, b, _ = logistic_fit(risk, label, np.ones((1, len(label))))
    usable = bool(np.isfinite(a[0]) and np.isfinite(b[0]))

    def p(rows: pd.DataFrame) -> np.ndarray:
        if not usable:
            return np.full(len(rows), rate)
        values = rows["risk"].to_numpy(dtype=np.float64)
        found: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(a[0] + b[0] * values, -30, 30)))
        return found

    return p


def _components(evidence: AuditEvidence, first: pd.DataFrame, drawing: Drawing) -> Plain | None:
    if not evidence.components or first["label"].sum() < MIN_SLICE_EVENTS:
        return None
    risk = unit(first["risk"]).to_numpy(dtype=np.float64)
    return components_of(first, evidence.components, risk, drawing, COMPONENT)
