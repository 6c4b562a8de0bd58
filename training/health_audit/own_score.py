"""Integrity checks of the audit on the health-score table of a company."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from configs.runtime.errors import DataError, SourceError
from configs.runtime.formatting import fixed
from training.evaluation.metrics import auc
from training.evaluation.sampling import Drawing
from training.health_audit.history import outcome_rows, score_rows
from training.health_audit.integrity import check, history_checks, ranked_by_risk, ranking_checks
from training.health_audit.monthly_panel import grid_of, span_of
from training.health_audit.options import AuditOptions
from training.health_audit.score_direction import settle_direction
from training.validation import score_evidence
from training.validation.content_types import CheckContent
from training.validation.verdict import PassMarks

if TYPE_CHECKING:
    from features.sources import Loaded

HEALTH_SCORES = "health_scores"


def own_score_table(loaded: Loaded) -> pd.DataFrame | None:
    """Return the company's health scores in the format of the audit's scores file.

    Returns
    -------
    pandas.DataFrame or None
        One row per account and date: account_id, scored_at, health_score (higher is healthier)
        and, if the source has times of writing, recorded_at. None without scores.
    """
    info = loaded.tables.get(HEALTH_SCORES)
    if info is None or "score" not in info.columns:
        return None
    columns = ["account_id", "scored_at", "score", "known_at"]
    table = pq.read_table(info.path, columns=columns).to_pandas()
    table = table.rename(columns={"score": "health_score", "known_at": "recorded_at"})
    return table if info.known_basis == "column" else table.drop(columns="recorded_at")


def decisions_of(labels: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the losses of labelled rows in the format of the outcomes file, each account once.

    Parameters
    ----------
    labels : iterable of pandas.DataFrame
        Per churn target, one row per entity and as_of: entity_id, label, decision_at (UTC).
    """
    columns = ["entity_id", "decision_at"]
    dated = [
        frame.loc[(frame["label"] == 1) & frame["decision_at"].notna(), columns] for frame in labels
    ]
    every = pd.concat(dated) if dated else pd.DataFrame(columns=columns)
    first = every.sort_values("decision_at").drop_duplicates("entity_id")
    return first.rename(columns={"entity_id": "account_id", "decision_at": "decided_at"}).assign(
        outcome="churn"
    )


def integrity_of(
    scores: pd.DataFrame, outcomes: pd.DataFrame, options: AuditOptions
) -> list[CheckContent]:
    """Return the integrity checks of `bellwether audit` on a score and the losses.

    Parameters
    ----------
    scores, outcomes : pandas.DataFrame
        In the format of the audit (`own_score_table`, `decisions_of`).
    options : AuditOptions
        Clock, direction, horizon, bootstrap.

    Returns
    -------
    list of dict
        code, title, passed (None if it could not run), words; empty if scores and losses have no
        account in common.
    """
    try:
        history = score_rows(scores, options)
        decided = outcome_rows(outcomes, options, set(history.rows["entity_id"]))
        ordered, span = settle_direction(history, options), span_of(history, decided, options)
    except (DataError, SourceError):
        return []
    checks = history_checks(history, ordered, decided, span, None)
    try:
        rows, _ = grid_of(ordered, decided, span, "churn", options)
    except DataError:  # no label window after a score is observed
        return checks
    ever = set(decided.rows.loc[decided.rows["kind"] == "churn", "entity_id"])
    drawing = Drawing(options.draws, options.seed, 1, 91)
    return [*checks, *ranking_checks(rows, ever, drawing), _too_good(rows)]


def _too_good(rows: pd.DataFrame) -> CheckContent:
    title = "the AUC of the score is not suspiciously high"
    first = score_evidence.headline(rows)
    if not 2 <= first["label"].sum() <= len(first) - 2:
        return check("too_good", title, None, "too few losses")
    area = float(auc(ranked_by_risk(first), np.ones((1, len(first))))[0])
    words = f"AUC {fixed(area)}; above {fixed(PassMarks.max_auc)} a leak is suspected"
    return check("too_good", title, area <= PassMarks.max_auc, words)


def own_score_checks(
    loaded: Loaded, labels: Mapping[str, pd.DataFrame], options: AuditOptions
) -> list[CheckContent]:
    """Return the integrity checks on the company's health score; empty without score or losses.

    Parameters
    ----------
    loaded : Loaded
        The source tables.
    labels : mapping of str to pandas.DataFrame
        Labelled rows per target whose outcome is churn.
    options : AuditOptions
        Clock, horizon, bootstrap.
    """
    scores, outcomes = own_score_table(loaded), decisions_of(labels.values())
    if scores is None or scores.empty or outcomes.empty:
        return []
    return integrity_of(scores, outcomes, options)
