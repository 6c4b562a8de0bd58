"""Content of the report as plain JSON; the page is rendered from this alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, cast

import pandas as pd

from configs.schema.company import Company
from features.snapshots.statuses import STATUSES
from training.data.splits import count_events
from training.evaluation.sampling import MODEL, MODEL_RAW, Drawing
from training.report import limits, risk_and_growth
from training.report.content_types import (
    CohortStep,
    JointContent,
    JsonContent,
    ModelRow,
    QualityContent,
    ReportContent,
    ServedContent,
    TargetContent,
    TestContent,
    VersionsContent,
)
from training.report.model_vs_health_score import (
    early_warnings,
    health_score_components,
    score_comparison,
    score_value,
)
from training.reporting.chart_types import Estimated
from training.reporting.report_text import MODELS, outcome_of
from training.validation import score_evidence
from training.validation.content_types import CheckContent
from training.validation.current_accounts import book_now, book_rows
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

TOP_ISSUES = 6
BLANK: Estimated = {"value": None, "low": None, "high": None}

NO_ALERTS: JsonContent = {"events": 0, "models": {}, "difference": None}
"""Alert list of a test that holds out accounts instead of time: empty."""


@dataclass(frozen=True)
class ReportInputs:
    """Inputs of the report for one target.

    Attributes
    ----------
    target : str
        Its name.
    contract : mapping
        The label contract with its counts (`features.labels`).
    evaluation : mapping
        `training.evaluation.evaluate.Evaluation` as plain content.
    gates : sequence of mapping
        Results of `training.candidates.gates`.
    predictions : pandas.DataFrame
        Out-of-time rows (`training.candidates.train.out_of_time`).
    cuts : mapping of str to float
        Lower limit of each band of the release.
    served : str
        Verdict of the published bundle.
    checks : sequence of mapping
        Leakage checks that ran: title, passed, words.
    parts : pandas.DataFrame or None
        Components of the health score in use (`training.data.dataset.health_score_parts`).
    own_score : sequence of mapping
        Integrity checks on the health score in use (`training.health_audit.own_score`).
    """

    target: str
    contract: JsonContent
    evaluation: JsonContent
    gates: Sequence[JsonContent]
    predictions: pd.DataFrame
    cuts: Mapping[str, float]
    served: str
    checks: Sequence[JsonContent] = field(default=())
    parts: pd.DataFrame | None = None
    own_score: Sequence[CheckContent] = field(default=())


def report_bootstrap(company: Company) -> Drawing:
    """Return the bootstrap and capacity of this company's evaluation."""
    training = company.training
    return Drawing(
        training.bootstrap_draws,
        training.seed,
        company.serving.capacity_per_month,
        training.fold_days,
    )


def target_content(study: ReportInputs, drawing: Drawing, marks: PassMarks) -> TargetContent:
    """Return the report content of one target.

    Parameters
    ----------
    study : ReportInputs
        Inputs of the target.
    drawing : Drawing
        Bootstrap and capacity.
    marks : PassMarks
        Thresholds of the verdict.
    """
    rows = score_evidence.headline(study.predictions)
    outcome = outcome_of(study.contract["outcome"])
    bands = score_evidence.band_of(rows[f"p_{MODEL}"].to_numpy(dtype=float), study.cuts)
    names = [name for name in MODELS if name != MODEL_RAW and f"p_{name}" in rows]
    band_table = score_evidence.band_table(rows, bands, drawing)
    lead = study.evaluation["first_alerts"] or NO_ALERTS
    calendar = score_evidence.calendar_gain(study.predictions, drawing)
    n_events = count_events(rows)
    criteria = _criteria(study, band_table, lead, calendar, n_events, marks)
    return {
        "bands": band_table,
        "lead": lead,
        "calendar": calendar,
        "health": score_evidence.health_audit(
            rows, bands, drawing, is_growth=outcome.is_growth, checks=study.own_score
        ),
        "sides": score_comparison(rows, drawing),
        "warned": early_warnings(
            study.predictions,
            study.cuts,
            float(study.contract["horizon_days"]),
            is_growth=outcome.is_growth,
        ),
        "worth": score_value(rows, drawing),
        "parts": health_score_components(rows, study.parts, drawing, is_growth=outcome.is_growth),
        "target": study.target,
        "outcome": study.contract["outcome"],
        "verdict": verdict(criteria, outcome).as_dict(),
        "criteria": [item.as_dict() for item in criteria],
        "served": _served(study),
        "contract": dict(study.contract),
        "cohort": _cohort(study.contract),
        "test": _test(study.evaluation, n_events),
        "models": _models(study.evaluation, names),
        "folds": _folds(study, names, drawing),
        "lead_times": study.evaluation["lead_times"],
        "timed": sorted(
            {n for item in study.evaluation["lead_times"] for n in item.get("auc", ())}
        ),
        "workload": study.evaluation["workload"],
        "stability": study.evaluation["stability"],
        "slices": {name: study.evaluation[name] for name in ("segments", "contracts", "newcomers")},
        "calibration": _calibration(study.evaluation),
        "cuts": dict(study.cuts),
        "missed": score_evidence.missed_events(rows, bands),
        "notes": list(study.evaluation["notes"]),
        "tuning": study.evaluation.get("tuning", ""),
    }


def _criteria(
    study: ReportInputs,
    bands: JsonContent,
    lead: JsonContent,
    calendar: JsonContent,
    n_events: int,
    marks: PassMarks,
) -> list[Criterion]:
    evaluation = study.evaluation
    model = evaluation["models"][MODEL]
    n_folds = len(evaluation["folds"]) if evaluation["over"] == "time" else 0
    applies, why_not = _lead_applies(study, lead)
    return [
        *sample_criteria(n_folds, n_events, marks),
        *ranking_criteria(model, calendar, marks),
        *band_criteria(bands, marks),
        *calibration_criteria(model, marks),
        *lead_criteria(lead, marks, applies=applies, why_not=why_not),
        *leakage_criteria(model["auc"], study.checks, marks),
    ]


def _lead_applies(study: ReportInputs, lead: JsonContent) -> tuple[bool, str]:
    """Return whether the lead-time criteria apply: only to dated renewal decisions."""
    if not lead["events"]:
        return False, "the outcome has no decision date"
    asks_renewal = study.contract["outcome"] == "churn" and study.contract["until_renewal"]
    if not asks_renewal or not study.predictions["is_under_contract"].astype(bool).any():
        return False, f"the score covers {study.contract['horizon_days']} days, not a renewal"
    return True, ""


def _served(study: ReportInputs) -> ServedContent:
    return {
        "verdict": study.served,
        "failed": [
            {"title": gate["title"], "threshold": gate["threshold"], "words": gate["words"]}
            for gate in study.gates
            if not gate["passed"]
        ],
        "gates": len(study.gates),
    }


def _cohort(contract: JsonContent) -> list[CohortStep]:
    """Return the row counts from all (account, as_of) to the rows used; they add up."""
    words: dict[str, str] = {str(name): text for name, text in STATUSES.items()}
    excluded = sorted(contract["excluded"].items(), key=lambda item: (-item[1], item[0]))
    return [
        {"step": "whole", "words": "every account at every scoring date",
         "rows": contract["rows"]},
        *(
            CohortStep(step="excluded", words=words.get(reason, reason), rows=rows)
            for reason, rows in excluded
        ),
        {"step": "used", "words": "used for training and testing",
         "rows": contract["used_rows"]},
    ]  # fmt: skip


def _test(evaluation: JsonContent, n_events: int) -> TestContent:
    return {
        "rows": evaluation["n_rows"],
        "entities": evaluation["n_entities"],
        "event_rows": evaluation["n_events"],
        "events": n_events,
        "base_rate": evaluation["base_rate"],
        "capacity": evaluation["capacity"],
        "over": evaluation["over"],
        "folds": len(evaluation["folds"]),
        "from": evaluation["folds"][0]["cutoff"],
        "until": evaluation["folds"][-1]["test_until"],
    }


def _models(evaluation: JsonContent, names: Sequence[str]) -> list[ModelRow]:
    return [
        {
            "name": name,
            "title": MODELS[name],
            "difference": evaluation["differences"].get(name, {}).get("auc"),
            "auc": measures.get("auc", BLANK),
            "auc_pooled": measures.get("auc_pooled", BLANK),
            "lift_at_capacity": measures.get("lift_at_capacity", BLANK),
            "capture_at_capacity": measures.get("capture_at_capacity", BLANK),
            "arr_capture_at_capacity": measures.get("arr_capture_at_capacity", BLANK),
            "brier_skill": measures.get("brier_skill", BLANK),
            "log_loss": measures.get("log_loss", BLANK),
        }
        for name in names
        for measures in [evaluation["models"][name]]
    ]


def _folds(study: ReportInputs, names: Sequence[str], drawing: Drawing) -> list[JsonContent]:
    measured = {
        item["fold"]: item["models"]
        for item in score_evidence.fold_aucs(study.predictions, names, drawing)
    }
    periods = {item["fold"]: item for item in study.evaluation["periods"]}
    return [
        {**fold, "models": measured[fold["fold"]], "period": periods.get(fold["fold"], {})}
        for fold in study.evaluation["folds"]
    ]


def _calibration(evaluation: JsonContent) -> JsonContent:
    measures = (
        "observed_to_expected",
        "calibration_slope",
        "calibration_intercept",
        "brier",
        "brier_skill",
    )
    return {
        "bins": evaluation["reliability"],
        **{
            when: {measure: evaluation["models"][name][measure] for measure in measures}
            for when, name in (("after", MODEL), ("before", MODEL_RAW))
            if name in evaluation["models"]
        },
    }


def report_content(
    company: Company,
    studies: Mapping[str, ReportInputs],
    *,
    quality: JsonContent,
    book: Any,
    release: JsonContent,
    now: datetime,
    marks: PassMarks,
    sections: Mapping[str, JsonContent] | None = None,
) -> ReportContent:
    """Return the content of the report with unrounded numbers.

    Parameters
    ----------
    company : Company
        Names, currency, capacity.
    studies : mapping of str to ReportInputs
        Inputs per target, in display order.
    quality : mapping
        `features.quality.QualityReport` as plain content.
    book : pandas.DataFrame or iterable of mapping
        The latest scores, see `training.validation.current_accounts.book_rows`.
    release : mapping
        `training.registry.releases.Release` as plain content.
    now : datetime
        The clock, UTC.
    marks : PassMarks
        Thresholds of the verdict.
    sections : mapping, optional
        Name (`training.report.report.SECTIONS`) to content of the further sections.
    """
    drawing = report_bootstrap(company)
    targets = {name: target_content(study, drawing, marks) for name, study in studies.items()}
    contracts = {name: study.contract for name, study in studies.items()}
    rows = book_rows(book)
    accounts = book_now(rows, contracts, release["bundles"])
    content: ReportContent = {
        "company": company.name,
        "title": company.title or company.name,
        "about": company.about,
        "entity": company.entity,
        "currency": company.reporting_currency,
        "capacity_per_month": company.serving.capacity_per_month,
        "now": now.isoformat(),
        "as_of": (accounts["as_of"] or now.isoformat())[:10],
        "data_through": _data_through(quality, now),
        "order": list(targets),
        "targets": targets,
        "book": accounts,
        "joint": _joint(studies, contracts, rows),
        "names": _names(rows, targets),
        "quality": _quality(quality),
        "sections": dict(sections or {}),
        "limits": limits.limits_of(company, targets, quality),
        "glossary": [
            {"word": word, "meaning": meaning} for word, meaning in limits.GLOSSARY.items()
        ],
        "versions": _versions(release, drawing),
    }
    return cast(ReportContent, plain_content(content))


def _joint(
    studies: Mapping[str, ReportInputs],
    contracts: Mapping[str, JsonContent],
    rows: Sequence[JsonContent],
) -> JointContent | None:
    """Return the comparison of risk and growth, if both are predicted."""
    pair = risk_and_growth.pair_of(contracts)
    if pair is None:
        return None
    first, second = (score_evidence.headline(studies[name].predictions) for name in pair)
    cuts = {name: studies[name].cuts for name in pair}
    cells = risk_and_growth.now(rows, pair)
    return {
        "targets": list(pair),
        "tested": risk_and_growth.what_followed(first, second, cuts, pair),
        "now": cells,
        "agreement": risk_and_growth.agreement(cells),
    }


def _names(rows: Sequence[JsonContent], targets: Mapping[str, TargetContent]) -> dict[str, str]:
    """Return the names of the accounts that the report lists by id."""
    listed: set[str] = set()
    for content in targets.values():
        if content["warned"] is not None:
            listed |= {item["entity_id"] for item in content["warned"]["losses"]}
            for one in content["warned"]["scores"].values():
                listed |= {item["entity_id"] for item in one["false_alarms"]}
    return {
        str(row["account_id"]): str(row["name"])
        for row in rows
        if str(row["account_id"]) in listed and row.get("name")
    }


def _data_through(quality: JsonContent, now: datetime) -> str | None:
    """Return the date of the latest event, not later than the clock."""
    last = [facts["last_happened"] for facts in quality["tables"].values()]
    return max((min(day[:10], now.isoformat()[:10]) for day in last if day), default=None)


def _quality(quality: JsonContent) -> QualityContent:
    weighty = [issue for issue in quality["issues"] if issue["severity"] != "info"]
    return {
        "grade": quality["grade"],
        "n_issues": len(weighty),
        "issues": weighty[:TOP_ISSUES],
        "gaps": [
            {"table": name, "words": words} for name, words in sorted(quality["gaps"].items())
        ],
        "tables": [
            {
                "table": name,
                "rows_read": facts["rows_read"],
                "rows": facts["rows"],
                "rows_quarantined": facts["rows_quarantined"],
                "rows_duplicate": facts["rows_duplicate"],
            }
            for name, facts in sorted(quality["tables"].items())
        ],
    }


def _versions(release: JsonContent, drawing: Drawing) -> VersionsContent:
    return {
        "release_id": release["release_id"],
        "created_at": release["created_at"],
        "bundles": {name: part["sha"] for name, part in release["bundles"].items()},
        "feature_set": release["feature_set"]["hash"],
        "n_features": len(release["feature_set"]["names"]),
        "reason_catalogue": release["reason_catalogue_version"],
        "config_hash": release["config_hash"],
        "bootstrap_draws": drawing.draws,
        "seed": drawing.seed,
    }


def plain_content(value: Any) -> Any:
    """Return content as JSON values: None for NaN, dates as text, tuples as lists.

    >>> plain_content({"a": (1.0, float("nan")), "b": date(2026, 3, 2)})
    {'a': [1.0, None], 'b': '2026-03-02'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_content(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else value
