"""Components of a health score: evidence on each component alone and its added value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from training.data.splits import count_events, entity_codes
from training.evaluation.metrics import (
    Estimate,
    Sample,
    auc,
    bootstrap,
    entity_weights,
    estimate,
    none_if_nan,
)
from training.evaluation.sampling import Drawing
from training.evaluation.significance import logistic_coefficients
from training.validation.score_evidence import compared_scores

REBUILT = 0.95
"""Share of the score's variance that the components must explain to count as its formula."""

REDUNDANT = 0.8
"""Rank correlation from which two components count as redundant."""

MIN_WEIGHT_EVENTS, EVENTS_PER_PART = 100, 10
"""Distinct events needed per fitted weight."""

WEIGHT_DRAWS = 200

Plain = dict[str, Any]


def components_of(
    rows: pd.DataFrame, names: Sequence[str], risk: np.ndarray, drawing: Drawing, prefix: str
) -> Plain:
    """Return the evidence on each component of a score.

    Parameters
    ----------
    rows : pandas.DataFrame
        Headline rows with ``<prefix><name>`` per component, and fold, label, entity_id, as_of,
        decision_at, label_known_at.
    names : sequence of str
        The components.
    risk : numpy.ndarray
        The score, higher meaning the event is likelier.
    drawing : Drawing
        Of the intervals.
    prefix : str
        Of the components' columns.

    Returns
    -------
    dict
        n, events, rebuilt (share of the score's variance the components explain); parts: name,
        coverage, weight (share of the formula's absolute weights; None where it is not rebuilt),
        direction (+1: more of it counts as likelier), auc (in the direction used), sign, nearest
        (most correlated component, with its rank correlation), own (log-odds per standard
        deviation, other components constant), dropped (AUC of the score minus AUC without the
        component), judgement;
        suggestion: weights fitted forward in time against the score, only where it is better.
    """
    values = _filled(rows, names, prefix)
    weights, rebuilt = _formula(values, risk)
    is_formula = rebuilt >= REBUILT
    label = rows["label"].to_numpy(dtype=np.float64)
    sample = _sample(rows, label)
    areas = _areas(sample, values, weights, risk, drawing)
    joint = _joint(values, label, sample.entity, drawing)
    nearest = _nearest(values, names)
    coverage = rows[[prefix + name for name in names]].notna().mean().to_numpy()
    total = float(np.abs(weights * values.std(axis=0)).sum()) or 1.0
    parts = []
    for place, name in enumerate(names):
        own, dropped = areas[place]
        share = float(abs(weights[place]) * values[:, place].std() / total)
        part = {
            "name": name,
            "coverage": float(coverage[place]),
            "weight": share if is_formula else None,
            "direction": 1 if weights[place] >= 0 else -1,
            "auc": own.as_dict(),
            "nearest": nearest[place],
            "own": joint[place].as_dict(),
            "dropped": dropped.as_dict() if is_formula else None,
        }
        parts.append(part | {"judgement": _judged(part)})
    return {
        "n": len(rows),
        "events": count_events(rows),
        "rebuilt": rebuilt,
        "is_formula": is_formula,
        "parts": parts,
        "suggestion": _suggestion(rows, values, names, weights, risk, drawing),
    }


def _filled(rows: pd.DataFrame, names: Sequence[str], prefix: str) -> np.ndarray:
    """Return the components, missing values replaced by the component's mean."""
    table = rows[[prefix + name for name in names]].astype("float64")
    filled: np.ndarray = table.fillna(table.mean()).fillna(0.0).to_numpy()
    return filled


def _formula(values: np.ndarray, risk: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the linear weights closest to the score, and the share of variance explained."""
    design = np.column_stack([np.ones(len(values)), values])
    found = np.linalg.lstsq(design, risk, rcond=None)[0]
    spread = float(((risk - risk.mean()) ** 2).sum())
    left = float(((risk - design @ found) ** 2).sum())
    return found[1:], 1.0 - left / spread if spread > 0 else 0.0


def _sample(rows: pd.DataFrame, label: np.ndarray) -> Sample:
    nothing = np.zeros(len(rows))
    return Sample(label, nothing, nothing, nothing, entity_codes(rows), rows["fold"].to_numpy())


def _areas(
    sample: Sample, values: np.ndarray, weights: np.ndarray, risk: np.ndarray, drawing: Drawing
) -> list[tuple[Estimate, Estimate]]:
    """Return per component its AUC alone and the drop in the score's AUC without it."""

    def drawn(score: np.ndarray) -> np.ndarray:
        scored = Sample(sample.label, score, sample.flagged, sample.arr, sample.entity,
                        sample.cohort)  # fmt: skip
        return bootstrap(scored, {"auc": auc}, draws=drawing.draws, seed=drawing.seed)["auc"]

    whole = drawn(risk)
    found = []
    for place in range(values.shape[1]):
        column = values[:, place]
        without = risk - weights[place] * (column - column.mean())
        signed = column if weights[place] >= 0 else -column
        found.append((estimate(drawn(signed)), estimate(whole - drawn(np.round(without, 9)))))
    return found


def _joint(
    values: np.ndarray, label: np.ndarray, entity: np.ndarray, drawing: Drawing
) -> list[Estimate]:
    """Return each component's log-odds per standard deviation, others constant, by bootstrap."""
    draws = min(WEIGHT_DRAWS, drawing.draws)
    scaled = (values - values.mean(axis=0)) / np.where(
        values.std(axis=0) > 0, values.std(axis=0), 1
    )
    fits = [logistic_coefficients(scaled, label)[0][1:]]
    for counted in entity_weights(entity, draws, drawing.seed):
        chosen = np.repeat(np.arange(len(label)), counted.astype(np.int64))
        fits.append(logistic_coefficients(scaled[chosen], label[chosen])[0][1:])
    table = np.vstack(fits)
    return [estimate(table[:, place]) for place in range(values.shape[1])]


def _nearest(values: np.ndarray, names: Sequence[str]) -> list[Plain | None]:
    if len(names) < 2:
        return [None] * len(names)
    matrix = np.atleast_2d(np.asarray(spearmanr(values).statistic))
    if matrix.shape != (len(names), len(names)):
        off = float(matrix.ravel()[0])
        matrix = np.array([[1.0, off], [off, 1.0]])
    table: list[Plain | None] = []
    for place in range(len(names)):
        alike = np.abs(np.nan_to_num(matrix[place]))
        alike[place] = -1.0
        other = int(alike.argmax())
        table.append({"name": names[other], "correlation": none_if_nan(matrix[place, other])})
    return table


def _judged(part: Plain) -> str:
    """Return the judgement on one component."""
    own, low, high = part["own"], part["auc"]["low"], part["auc"]["high"]
    if low is None or high is None:
        return "inconclusive"
    if high < 0.5:
        return "inverted"
    is_alike = part["nearest"] is not None and abs(part["nearest"]["correlation"] or 0) >= REDUNDANT
    adds = own["low"] is not None and own["low"] * own["high"] > 0
    if low <= 0.5:
        return "no evidence"
    if is_alike and not adds:
        return "redundant"
    return "contributes" if adds else "predicts, no added value shown"


def _suggestion(
    rows: pd.DataFrame,
    values: np.ndarray,
    names: Sequence[str],
    weights: np.ndarray,
    risk: np.ndarray,
    drawing: Drawing,
) -> Plain:
    """Return weights fitted on earlier quarters, where they do better on later ones."""
    events = count_events(rows)
    needed = max(MIN_WEIGHT_EVENTS, EVENTS_PER_PART * len(names))
    if events < needed:
        words = f"{events} events are too few to fit weights of {len(names)} components: "
        f"{needed} are needed"
        return {"status": "too few", "words": words, "weights": None, "gain": None}
    forward = _forward(rows, values, needed // 2)
    tested = np.isfinite(forward)
    here = rows[tested].reset_index(drop=True)
    if not tested.any() or here["label"].sum() < 20:
        words = "too few events to fit weights on earlier quarters and test them on later ones"
        return {"status": "too few", "words": words, "weights": None, "gain": None}
    gain = _gain(here, forward[tested], risk[tested], drawing)
    judgement = compared_scores(gain)
    if judgement != "better":
        words = {
            "worse": "weights fitted on earlier quarters did worse than the weights in use",
            "equivalent": "weights fitted on earlier quarters did as well as the weights in use",
        }.get(
            judgement,
            "no clear difference between weights fitted on earlier quarters and the weights in use",
        )
        return {"status": "keep", "words": words, "weights": None, "gain": gain}
    label = rows["label"].to_numpy(dtype=np.float64)
    fitted = logistic_coefficients(values, label)[0][1:]
    scale = float(np.abs(fitted).sum()) or 1.0
    formula = float(np.abs(weights).sum()) or 1.0
    return {
        "status": "suggested",
        "words": "weights fitted on earlier quarters did better on later ones",
        "gain": gain,
        "weights": [
            {"name": name, "suggested": float(a / scale), "in_use": float(b / formula)}
            for name, a, b in zip(names, fitted, weights, strict=True)
        ],
    }


def _forward(rows: pd.DataFrame, values: np.ndarray, least: int) -> np.ndarray:
    """Return risk by weights fitted on data known at each quarter's start; NaN before."""
    scored = np.full(len(rows), np.nan)
    label = rows["label"].to_numpy(dtype=np.float64)
    for number in sorted(rows["fold"].unique()):
        here = (rows["fold"] == number).to_numpy()
        known = (rows["label_known_at"] <= rows.loc[here, "as_of"].min()).to_numpy()
        if label[known].sum() < least:
            continue
        fitted = logistic_coefficients(values[known], label[known])[0]
        scored[here] = fitted[0] + values[here] @ fitted[1:]
    return scored


def _gain(rows: pd.DataFrame, ours: np.ndarray, theirs: np.ndarray, drawing: Drawing) -> Plain:
    sample = _sample(rows, rows["label"].to_numpy(dtype=np.float64))
    drawn = [
        bootstrap(
            Sample(sample.label, score, sample.flagged, sample.arr, sample.entity, sample.cohort),
            {"auc": auc}, draws=drawing.draws, seed=drawing.seed,
        )["auc"]
        for score in (ours, theirs)
    ]  # fmt: skip
    return estimate(drawn[0] - drawn[1]).as_dict()
