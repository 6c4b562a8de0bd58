"""Comparison of scores on the same held-out accounts, draws and workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from training.data.splits import count_events, entity_codes
from training.evaluation.metrics import (
    Measure,
    Sample,
    arr_capture,
    auc,
    auc_pooled,
    bootstrap,
    capture,
    estimate,
    lift,
)
from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL, Drawing, sample_of
from training.evaluation.significance import delong, likelihood_ratio
from training.model.bundle import logit_of
from training.validation.score_evidence import compared_scores
from training.validation.verdict import MIN_VERDICT_EVENTS

MEASURED: Mapping[str, Measure] = {
    "auc": auc,
    "auc_pooled": auc_pooled,
    "capture": capture,
    "lift": lift,
    "arr_capture": arr_capture,
}

ADDS_P = 0.01
"""p-value below which a score adds to another; stricter than 0.05 because of two tests."""

Plain = dict[str, Any]


def side_by_side(
    rows: pd.DataFrame, names: Sequence[str], drawing: Drawing, *, main: str = MODEL
) -> Plain:
    """Compare scores with each other.

    Parameters
    ----------
    rows : pandas.DataFrame
        Headline rows on which every score is known, with one ``p_<name>`` per score.
    names : sequence of str
        The scores; `main` among them is compared with each of the others.
    drawing : Drawing
        Bootstrap over accounts, and capacity.
    main : str
        The score in question.

    Returns
    -------
    dict
        n, entities, events, capacity_per_fold, and scores: per name its measures with 95 %
        intervals and, but for `main`: difference (main minus it, per measure), judgement,
        workload (events found by both, by one only, by neither, at the same number of accounts),
        one_each (tests on one row per account).
    """
    samples = {name: sample_of(rows, name, drawing.capacity_per_fold) for name in names}
    drawn = {
        name: bootstrap(sample, MEASURED, draws=drawing.draws, seed=drawing.seed)
        for name, sample in samples.items()
    }
    alone = one_each(rows, drawing.seed)
    found = []
    for name in names:
        item: Plain = {
            "name": name,
            **{key: estimate(values).as_dict() for key, values in drawn[name].items()},
        }
        if name != main:
            item["difference"] = {
                key: estimate(drawn[main][key] - drawn[name][key]).as_dict() for key in MEASURED
            }
            enough = count_events(rows) >= MIN_VERDICT_EVENTS
            item["judgement"] = (
                compared_scores(item["difference"]["auc"]) if enough else "inconclusive"
            )
            item["workload"] = workload_of_both(samples[main], samples[name])
            item["one_each"] = tests(rows.iloc[alone], main, name)
        found.append(item)
    return {
        "n": len(rows),
        "entities": int(rows["entity_id"].nunique()),
        "events": int(rows["label"].sum()),
        "capacity_per_fold": drawing.capacity_per_fold,
        "main": main,
        "scores": found,
    }


def one_each(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Return one row position per account: its event if it had one, else a random row.

    For tests that assume independent rows.
    """
    lot = np.random.default_rng(seed).random(len(rows))
    order = np.lexsort((lot, -rows["label"].to_numpy(dtype=np.float64)))
    codes = entity_codes(rows)[order]
    first = np.unique(codes, return_index=True)[1]
    chosen: np.ndarray = np.sort(order[first])
    return chosen


def tests(rows: pd.DataFrame, main: str, other: str) -> Plain:
    """Test two scores on independent rows.

    Returns
    -------
    dict
        n, events; where there are enough: delong, main_adds and other_adds (likelihood-ratio
        tests), and words: ``both add``, ``only NAME adds``, ``neither adds``.
    """
    label = rows["label"].to_numpy(dtype=np.float64)
    found: Plain = {"n": len(rows), "events": int(label.sum())}
    if min(label.sum(), len(label) - label.sum()) < MIN_SLICE_EVENTS:
        return found
    p = {name: rows[f"p_{name}"].to_numpy(dtype=np.float64) for name in (main, other)}
    logits = {name: logit_of(np.clip(value, 1e-9, 1 - 1e-9)) for name, value in p.items()}
    main_adds = likelihood_ratio(label, logits[other], logits[main])
    other_adds = likelihood_ratio(label, logits[main], logits[other])
    return found | {
        "delong": delong(label, p[main], p[other]),
        "main_adds": main_adds,
        "other_adds": other_adds,
        "adds": _adds(main_adds, other_adds),
    }


def _adds(main: Plain, other: Plain) -> str:
    if main["p_value"] is None or other["p_value"] is None:
        return "inconclusive"
    first, second = main["p_value"] < ADDS_P, other["p_value"] < ADDS_P
    if first and second:
        return "both"
    return "main" if first else "other" if second else "neither"


def workload_of_both(main: Sample, other: Sample) -> Plain:
    """Return the events found by two scores when each picks the same number of accounts.

    Rows tied at the capacity limit count by their share.

    Returns
    -------
    dict
        picked (accounts, over all periods), both, main_only, other_only, neither (events).
    """
    events = main.label == 1
    first, second = main.flagged[events], other.flagged[events]
    both = np.minimum(first, second).sum()
    return {
        "picked": float(main.flagged.sum()),
        "both": float(both),
        "main_only": float(first.sum() - both),
        "other_only": float(second.sum() - both),
        "neither": float(events.sum() - first.sum() - second.sum() + both),
    }
