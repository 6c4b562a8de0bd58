"""Evidence from out-of-time rows: bands, the company's health score, calendar and lead times.

Every function takes the predictions of `training.candidates.train.out_of_time`, one row per fold
and test row, and returns plain JSON content. Measures come from `training.evaluation.metrics`;
differences are paired: both scores on the same rows under the same draws of entities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, norm

from training.data.splits import entity_codes
from training.evaluation.metrics import (
    Measure,
    PerEntity,
    Sample,
    auc,
    auc_pooled,
    bootstrap,
    capture,
    clustered_wilson,
    design_effect,
    entity_sums,
    estimate,
    flag_top,
    none_if_nan,
)
from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL, Drawing, lead_days, sample_of
from training.validation.content_types import CheckContent

BANDS = ("low", "elevated", "high")
"""Bands in ascending order of risk."""

EQUIVALENCE = 0.03
"""Difference in AUC within which two scores count as equivalent."""

NINETY_DAYS = (60, 120)
"""Days before the decision, ``(low, high]``, that count as ninety days before."""

INVERSION_P = 0.05

Plain = dict[str, Any]


def headline(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the headline rows: one per entity and test period."""
    return predictions[predictions["is_headline"].astype(bool)].reset_index(drop=True)


def band_of(p: np.ndarray, cuts: Mapping[str, float]) -> np.ndarray:
    """Return the band of each probability.

    Parameters
    ----------
    p : numpy.ndarray
        Probabilities in [0, 1].
    cuts : mapping of str to float
        Probability at which ``elevated`` and ``high`` start; a missing one is never reached.

    Examples
    --------
    >>> band_of(np.array([0.1, 0.2, 0.9]), {"elevated": 0.2, "high": 0.5}).tolist()
    ['low', 'elevated', 'high']
    """
    starts = [cuts.get(name, np.inf) for name in BANDS[1:]]
    position = (p >= starts[0]).astype(int)
    position = np.where(p >= starts[1], 2, position)
    return np.array(BANDS, dtype=object)[position]


def cochran_armitage(
    events: Sequence[float], totals: Sequence[float], scores: Sequence[float] | None = None
) -> Plain:
    """Test whether a rate rises or falls along ordered groups.

    Parameters
    ----------
    events, totals : sequence of float
        Events and rows per group.
    scores : sequence of float, optional
        Position of each group; by default 0, 1, 2 ….

    Returns
    -------
    dict
        ``z`` (positive: rising) and the two-sided ``p_value``; None where nothing varies.

    Notes
    -----
    ``z = Σ sᵢ(xᵢ − nᵢp) / √(p(1−p)(Σ nᵢsᵢ² − (Σ nᵢsᵢ)²/N))``, Armitage, Biometrics 11 (1955) 375.

    Examples
    --------
    >>> trend = cochran_armitage([5, 10, 20], [100, 100, 100])
    >>> round(trend["z"], 2), round(trend["p_value"], 4)
    (3.3, 0.001)
    """
    x, n = np.asarray(events, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    s = np.arange(len(n), dtype=np.float64) if scores is None else np.asarray(scores, np.float64)
    rate = x.sum() / n.sum()
    spread = (n * s**2).sum() - (n * s).sum() ** 2 / n.sum()
    variance = rate * (1.0 - rate) * spread
    if variance <= 0:
        return {"z": None, "p_value": None}
    z = float((s * (x - n * rate)).sum() / np.sqrt(variance))
    return {"z": z, "p_value": float(2.0 * norm.sf(abs(z)))}


def band_table(
    rows: pd.DataFrame, bands: np.ndarray, drawing: Drawing, names: Sequence[str] = BANDS
) -> Plain:
    """Return observed rates per band, their trend, and the ratio of highest to lowest band.

    Parameters
    ----------
    rows : pandas.DataFrame
        Headline rows.
    bands : numpy.ndarray
        The band of each row.
    drawing : Drawing
        Of the interval of the ratio.
    names : sequence of str
        All bands, from the least to the most likely.

    Returns
    -------
    dict
        rows (band, n, events, rate, low, high by Wilson, design_effect, arr, event_arr), trend,
        ratio (95 % by cluster bootstrap; half an event is added to a band without any), inversions
        (pairs of bands in the wrong order, Fisher's exact test one-sided below 0.05). Intervals
        and tests allow for rows of the same entities (`training.evaluation.metrics.design_effect`).
    """
    label = rows["label"].to_numpy(dtype=np.float64)
    arr = np.nan_to_num(rows["arr"].to_numpy(dtype=np.float64))
    codes = entity_codes(rows)
    present = [name for name in names if (bands == name).any()]
    table = [_band_row(name, label, arr, codes, bands == name) for name in present]
    # Tests take rows for independent: each band counts by what its rows are worth.
    worth = [1.0 / item["design_effect"] for item in table]
    events = [item["events"] * part for item, part in zip(table, worth, strict=True)]
    totals = [item["n"] * part for item, part in zip(table, worth, strict=True)]
    return {
        "rows": table,
        "trend": cochran_armitage(events, totals),
        "ratio": _band_ratio(rows, bands, present, drawing),
        "inversions": _inversions(table, events, totals),
    }


def _band_row(
    name: str, label: np.ndarray, arr: np.ndarray, entity: np.ndarray, inside: np.ndarray
) -> Plain:
    n, events = int(inside.sum()), int(label[inside].sum())
    low, high = clustered_wilson(label[inside], entity[inside])
    return {
        "band": name,
        "n": n,
        "events": events,
        "rate": events / n,
        "low": low,
        "high": high,
        "design_effect": design_effect(label[inside], entity[inside]),
        "arr": float(arr[inside].sum()),
        "event_arr": float((arr * label)[inside].sum()),
    }


def _band_ratio(
    rows: pd.DataFrame, bands: np.ndarray, present: Sequence[str], drawing: Drawing
) -> Plain:
    if len(present) < 2:
        return {"value": None, "low": None, "high": None}
    sample = plain_sample(rows, np.zeros(len(rows)))
    weights = entity_sums(sample.entity, drawing.draws, drawing.seed)
    worst, best = (
        _rate(weights, sample.label, bands == name) for name in (present[-1], present[0])
    )
    return estimate(worst / best).as_dict()


def _rate(weights: PerEntity, label: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the event rate of a band per draw; bands without events count half an event."""
    events, n = weights @ (label * inside), weights @ inside.astype(np.float64)
    rate: np.ndarray = np.divide(
        np.where(events == 0, 0.5, events), n, out=np.full(len(n), np.nan), where=n > 0
    )
    return rate


def _inversions(
    table: Sequence[Plain], events: Sequence[float], totals: Sequence[float]
) -> list[Plain]:
    found = []
    for place, (lower, upper) in enumerate(zip(table, table[1:], strict=False)):
        counts = [[round(events[at]), round(totals[at] - events[at])] for at in (place, place + 1)]
        p_value = float(fisher_exact(counts, alternative="greater")[1])
        if lower["rate"] > upper["rate"] and p_value < INVERSION_P:
            found.append({"lower": lower["band"], "upper": upper["band"], "p_value": p_value})
    return found


def missed_events(rows: pd.DataFrame, bands: np.ndarray, lowest: str = "low") -> list[Plain]:
    """Return events whose last score was in the lowest band, largest ARR first.

    The last score is from the last test period whose label window contains the event.
    """
    happened = (rows["label"] == 1).to_numpy()
    events = rows[happened].assign(_band=bands[happened])
    last = events.sort_values(["as_of", "entity_id"]).drop_duplicates(
        ["entity_id", "decision_at"], keep="last"
    )
    last = last[last["_band"] == lowest]
    ordered = last.assign(_value=last["arr"].fillna(-1.0)).sort_values(
        ["_value", "entity_id"], ascending=[False, True]
    )
    return [
        {
            "entity_id": str(row["entity_id"]),
            "as_of": row["as_of"].isoformat(),
            "p": float(row[f"p_{MODEL}"]),
            "decision_at": row["decision_at"].isoformat() if pd.notna(row["decision_at"]) else None,
            "arr": none_if_nan(row["arr"]),
        }
        for row in ordered.to_dict(orient="records")
    ]


def plain_sample(rows: pd.DataFrame, risk: np.ndarray, capacity: float | None = None) -> Sample:
    """Return a sample ranked by any number, higher riskier; each fold flags its top `capacity`."""
    flagged = np.zeros(len(rows))
    for number in rows["fold"].unique() if capacity is not None else ():
        here = (rows["fold"] == number).to_numpy()
        flagged[here] = flag_top(risk[here], float(capacity or 0.0))
    return Sample(
        rows["label"].to_numpy(dtype=np.float64),
        risk,
        flagged,
        rows["arr"].to_numpy(dtype=np.float64),
        entity_codes(rows),
        rows["fold"].to_numpy(),
    )


def paired(
    ours: Sample, theirs: Sample, measures: Mapping[str, Measure], drawing: Drawing
) -> dict[str, Plain]:
    """Return both estimates per measure, and ours minus theirs on the same draws.

    Parameters
    ----------
    ours, theirs : Sample
        The same rows in the same order under two scores.
    measures : mapping of str to Measure
        What to measure.
    drawing : Drawing
        Of the intervals: entities are drawn, with all their rows.
    """
    a, b = (
        bootstrap(sample, measures, draws=drawing.draws, seed=drawing.seed)
        for sample in (ours, theirs)
    )
    return {
        name: {
            "ours": estimate(a[name]).as_dict(),
            "theirs": estimate(b[name]).as_dict(),
            "difference": estimate(a[name] - b[name]).as_dict(),
        }
        for name in measures
    }


def compared_scores(difference: Mapping[str, float | None], tolerance: float = EQUIVALENCE) -> str:
    """Return the judgement on the interval of a difference.

    Returns
    -------
    str
        ``better`` or ``worse`` when the interval excludes 0; ``equivalent`` when it lies within
        ± `tolerance`; else ``inconclusive``.

    Examples
    --------
    >>> compared_scores({"value": 0.06, "low": 0.02, "high": 0.1})
    'better'
    >>> compared_scores({"value": 0.0, "low": -0.02, "high": 0.03})
    'equivalent'
    >>> compared_scores({"value": 0.02, "low": -0.05, "high": 0.09})
    'inconclusive'
    """
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "inconclusive"
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equivalent" if -tolerance <= low and high <= tolerance else "inconclusive"


def health_audit(
    rows: pd.DataFrame,
    bands: np.ndarray,
    drawing: Drawing,
    *,
    is_growth: bool,
    checks: Sequence[CheckContent] = (),
) -> Plain:
    """Compare the company's health score, as known at the time, with outcomes and the model.

    Parameters
    ----------
    rows : pandas.DataFrame
        Headline rows; those with a score are used, for both.
    bands : numpy.ndarray
        The model's band of each row. The own score gets bands that hold as many accounts, so
        that both mean the same workload.
    drawing : Drawing
        Bootstrap and capacity.
    is_growth : bool
        A healthier score should mean the event is more likely, not less.
    checks : sequence of mapping
        Integrity checks on the score's history (`training.health_audit.own_score`).

    Returns
    -------
    dict
        status ``absent``, ``too few`` or ``measured``; n, events, coverage (share of rows that
        have a score); checks, and failed (those that found an edit: then predicts is ``suspect``
        and the score is not called better or worse); when measured also auc, auc_pooled, capture,
        judgement, bands, missed (events in the low band of either).
    """
    known = rows["health_score"].notna().to_numpy()
    here, own_bands = rows[known].reset_index(drop=True), bands[known]
    events = int(here["label"].sum())
    failed = [item for item in checks if item["passed"] is False]
    found = {
        "coverage": float(known.mean()),
        "n": len(here),
        "events": events,
        "checks": [dict(item) for item in checks],
        "failed": [dict(item) for item in failed],
    }
    if here["health_score"].nunique() < 2:
        return {"status": "absent", **found}
    if min(events, len(here) - events) < MIN_SLICE_EVENTS:
        return {"status": "too few", **found}
    score = here["health_score"].to_numpy(dtype=np.float64)
    risk = score if is_growth else -score
    ours = sample_of(here, MODEL, drawing.capacity_per_fold)
    theirs = plain_sample(here, risk, drawing.capacity_per_fold)
    measured = paired(
        ours, theirs, {"auc": auc, "auc_pooled": auc_pooled, "capture": capture}, drawing
    )
    their_bands = same_sizes(risk, own_bands)
    return {
        "status": "measured",
        **found,
        **measured,
        "predicts": "suspect" if failed else _predicts(measured["auc"]["theirs"]),
        "judgement": "suspect" if failed else compared_scores(measured["auc"]["difference"]),
        "bands": {
            "ours": band_table(here, own_bands, drawing),
            "theirs": band_table(here, their_bands, drawing),
        },
        "missed": {
            "ours": _missed_sums(here, own_bands),
            "theirs": _missed_sums(here, their_bands),
        },
    }


def _predicts(estimated: Mapping[str, float | None]) -> str:
    """Return the judgement on an AUC's interval: yes, weakly, inverted or inconclusive."""
    low, high = estimated["low"], estimated["high"]
    if low is None or high is None or low <= 0.5 <= high:
        return "inconclusive"
    if high < 0.5:
        return "inverted"
    return "yes" if low > 0.6 else "weakly"


def same_sizes(risk: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """Return bands of another score with the same sizes as `bands`; ties share the higher band.

    >>> same_sizes(np.array([1.0, 4.0, 2.0, 3.0]),
    ...            np.array(["high", "low", "low", "elevated"], dtype=object)).tolist()
    ['low', 'high', 'low', 'elevated']
    """
    ranked = np.sort(risk)[::-1]
    n_high = int((bands == "high").sum())
    n_elevated = n_high + int((bands == "elevated").sum())
    cuts = {
        name: float(ranked[size - 1])
        for name, size in (("high", n_high), ("elevated", n_elevated))
        if size
    }
    return band_of(risk, cuts)


def _missed_sums(rows: pd.DataFrame, bands: np.ndarray) -> Plain:
    missed = missed_events(rows, bands)
    return {"events": len(missed), "arr": sum(item["arr"] or 0.0 for item in missed)}


def calendar_gain(predictions: pd.DataFrame, drawing: Drawing) -> Plain:
    """Return model minus calendar AUC about ninety days before the decision.

    Returns
    -------
    dict
        difference; events; at: ``ninety days``, or ``any time`` where too few events have a
        decision that far ahead.
    """
    first = headline(predictions)
    lead = lead_days(predictions)
    inside = (predictions["label"] == 1) & (lead > NINETY_DAYS[0]) & (lead <= NINETY_DAYS[1])
    decided = predictions[inside].drop_duplicates(["entity_id", "fold"])
    stayed = first[first["label"] == 0]
    enough = min(len(decided), len(stayed)) >= MIN_SLICE_EVENTS
    rows = pd.concat([decided, stayed], ignore_index=True) if enough else first
    samples = [sample_of(rows, name, drawing.capacity_per_fold) for name in (MODEL, "calendar")]
    return {
        "difference": paired(samples[0], samples[1], {"auc": auc}, drawing)["auc"]["difference"],
        "events": int(rows["label"].sum()),
        "at": "ninety days" if enough else "any time",
    }


def fold_aucs(predictions: pd.DataFrame, names: Sequence[str], drawing: Drawing) -> list[Plain]:
    """Return the AUC of every model in every test period, with its interval.

    Returns
    -------
    list of dict
        Per fold: fold, n, events, models (name to estimate).
    """
    rows = headline(predictions)
    table = []
    for number in sorted(rows["fold"].unique()):
        here = rows[rows["fold"] == number].reset_index(drop=True)
        samples = {name: sample_of(here, name, drawing.capacity_per_fold) for name in names}
        table.append(
            {
                "fold": int(number),
                "n": len(here),
                "events": int(here["label"].sum()),
                "models": {
                    name: _auc_estimate(sample, drawing) for name, sample in samples.items()
                },
            }
        )
    return table


def _auc_estimate(sample: Sample, drawing: Drawing) -> Plain:
    drawn = bootstrap(sample, {"auc": auc}, draws=drawing.draws, seed=drawing.seed)
    return estimate(drawn["auc"]).as_dict()
