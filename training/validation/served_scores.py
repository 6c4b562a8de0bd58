"""Realised outcomes of served scores: a prospective record, free of hindsight.

A score is evaluated against the label contract it was made under, once its label window has
closed. Open windows are reported separately, as an interim count without a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from configs.runtime.formatting import day
from training.evaluation.metrics import (
    Measure,
    Sample,
    auc,
    auc_pooled,
    bootstrap,
    entity_weights,
    estimate,
    wilson,
)
from training.evaluation.sampling import month_codes
from training.validation.current_accounts import RAISED
from training.validation.score_evidence import BANDS

SCORE_COLUMNS = {
    "target": "target name",
    "entity_id": "account id",
    "as_of": "prediction moment, UTC",
    "served_at": "time of scoring, UTC",
    "model": "checksum of the bundle",
    "p": "probability served",
    "band": "band served",
    "arr": "ARR at the time of the score, NaN unknown",
    "segment": "at the time of the score, None unknown",
    "label": "1 event, 0 no event, NaN: unknown or not evaluated",
    "excluded": "reason for not evaluating it, None where evaluated",
    "closes_at": "end of the label window, UTC",
    "decision_at": "time of the decision, UTC",
    "so_far": "event so far, with open or closed window; None where unknown",
}

OPEN = "window not yet observed"
LEAD_DAYS = (30, 60, 90, 180)
FEWEST_EVENTS = 10
DRAWS = 500

Plain = dict[str, Any]


def served_content(scores: pd.DataFrame, now: datetime, *, seed: int) -> Plain:
    """Return the realised outcomes of every target.

    Parameters
    ----------
    scores : pandas.DataFrame
        One row per score served, columns of `SCORE_COLUMNS`.
    now : datetime
        The clock, UTC.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        words, and per target: counts, quarters, models, bands, segments, lead, measures, interim.
    """
    counted = first_of_month(scores) if len(scores) else scores
    targets = {
        str(name): _target(rows.reset_index(drop=True), seed)
        for name, rows in counted.groupby("target", sort=True)
    }
    return {
        "n_served": len(scores),
        "n_counted": len(counted),
        "since": None if scores.empty else str(scores["served_at"].min())[:10],
        "words": _words(scores, targets, now),
        "targets": targets,
    }


def first_of_month(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the first score of each account, target, model and calendar month.

    Otherwise daily scores would count each account thirty times a month.
    """
    ordered = scores.sort_values(["as_of", "served_at", "entity_id"], kind="stable")
    month = ordered["as_of"].dt.strftime("%Y-%m")
    keys = ordered[["target", "entity_id", "model"]].assign(month=month)
    return ordered[~keys.duplicated()].reset_index(drop=True)


def _target(rows: pd.DataFrame, seed: int) -> Plain:
    closed = rows[rows["label"].notna()].reset_index(drop=True)
    is_open = rows["excluded"] == OPEN
    others = rows[rows["label"].isna() & ~is_open]
    excluded = others["excluded"].fillna("unknown").value_counts().sort_index()
    return {
        "served": len(rows),
        "closed": len(closed),
        "open": int(is_open.sum()),
        "left_out": [{"words": str(why), "scores": int(n)} for why, n in excluded.items()],
        "overall": rates(closed, seed),
        "measures": _measures(closed, seed),
        "bands": [
            {"band": band, **rates(closed[closed["band"] == band], seed)}
            for band in reversed(BANDS)
        ],
        "segments": _by(closed, closed["segment"].fillna("unknown"), seed),
        "models": _by(closed, closed["model"].str[:12], seed),
        "quarters": _quarters(rows, seed),
        "lead": _lead(closed),
        "interim": _interim(rows[is_open]),
    }


def rates(closed: pd.DataFrame, seed: int) -> Plain:
    """Return expected and observed rates of scores with a closed window, by accounts and ARR.

    Returns
    -------
    dict
        scores, accounts, events; expected (mean probability); observed with its Wilson interval,
        each account counted once, by its first score; arr, arr_expected_lost, arr_moved (of scores
        whose event happened) and arr_rate with an interval from a bootstrap over accounts.
    """
    once = closed.drop_duplicates("entity_id")
    n, events = len(once), float(once["label"].sum())
    low, high = wilson(events, n) if n else (None, None)
    value = closed["arr"].fillna(0.0)
    return {
        "scores": len(closed),
        "accounts": n,
        "events": int(events),
        "expected": float(once["p"].mean()) if n else None,
        "observed": events / n if n else None,
        "low": low,
        "high": high,
        "arr": float(value.sum()),
        "arr_expected": float((value * closed["p"]).sum()),
        "arr_moved": float((value * closed["label"]).sum()),
        "arr_rate": arr_rate(closed, seed),
    }


def arr_rate(closed: pd.DataFrame, seed: int) -> dict[str, float | None]:
    """Return the share of ARR with an event, with a 95 % bootstrap interval over accounts."""
    value = closed["arr"].fillna(0.0).to_numpy(dtype=np.float64)
    if not value.sum() > 0:
        return {"value": None, "low": None, "high": None}
    entity = closed["entity_id"].astype("category").cat.codes.to_numpy(dtype=np.int64)
    weights = np.vstack([np.ones((1, len(value))), entity_weights(entity, DRAWS, seed)])
    whole = weights @ value
    moved = weights @ (value * closed["label"].to_numpy(dtype=np.float64))
    share = np.divide(moved, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return estimate(share).as_dict()


def _measures(closed: pd.DataFrame, seed: int) -> Plain | None:
    """Return AUC within months and over all months, and observed over expected.

    None with too few events.
    """
    events = closed.loc[closed["label"] == 1, "entity_id"].nunique()
    if events < FEWEST_EVENTS or closed["label"].min() == closed["label"].max():
        return None
    sample = Sample(
        closed["label"].to_numpy(dtype=np.float64),
        closed["p"].to_numpy(dtype=np.float64),
        np.zeros(len(closed)),
        closed["arr"].to_numpy(dtype=np.float64),
        closed["entity_id"].astype("category").cat.codes.to_numpy(dtype=np.int64),
        month_codes(closed["as_of"]),
    )

    def ratio(sample: Sample, weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = (weights @ sample.label) / (weights @ sample.p)
        return found

    measures: dict[str, Measure] = {
        "auc": auc,
        "auc_pooled": auc_pooled,
        "observed_to_expected": ratio,
    }
    drawn = bootstrap(sample, measures, draws=DRAWS, seed=seed)
    return {name: estimate(values).as_dict() for name, values in drawn.items()}


def _by(closed: pd.DataFrame, key: pd.Series, seed: int) -> list[Plain]:
    return [
        {"name": str(name), **rates(part, seed)} for name, part in closed.groupby(key, sort=True)
    ]


def _quarters(rows: pd.DataFrame, seed: int) -> list[Plain]:
    """Return the outcomes by quarter of the prediction; quarters with open windows are interim."""
    quarter = rows["as_of"].dt.tz_localize(None).dt.to_period("Q").astype(str)
    found = []
    for name, part in rows.groupby(quarter, sort=True):
        n_open = int((part["excluded"] == OPEN).sum())
        closed = part[part["label"].notna()]
        found.append(
            {
                "quarter": f"{str(name)[:4]} {str(name)[4:]}",
                "is_interim": n_open > 0,
                "open": n_open,
                **rates(closed, seed),
            }
        )
    return found


def _lead(closed: pd.DataFrame) -> list[Plain]:
    """Return events and warned events by days from score to decision."""
    events = closed[(closed["label"] == 1) & closed["decision_at"].notna()]
    days = (events["decision_at"] - events["as_of"]).dt.total_seconds() / 86_400.0
    edges = [0.0, *map(float, LEAD_DAYS), np.inf]
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = events[(days > low) & (days <= high) | ((low == 0) & (days == 0))]
        once = inside.drop_duplicates("entity_id")
        warned = int(once["band"].isin(RAISED).sum())
        limits = wilson(warned, len(once)) if len(once) else (None, None)
        found.append(
            {
                "from_days": int(low),
                "to_days": None if np.isinf(high) else int(high),
                "events": len(once),
                "warned": warned,
                "share": warned / len(once) if len(once) else None,
                "low": limits[0],
                "high": limits[1],
                "arr": float(once["arr"].fillna(0.0).sum()),
            }
        )
    return found


def _interim(rows: pd.DataFrame) -> Plain:
    """Return counts of open windows; no verdict, because the event can still happen."""
    once = rows.drop_duplicates("entity_id")
    told = once["so_far"].dropna()
    return {
        "accounts": len(once),
        "expected_events": float(once["p"].sum()),
        "so_far": int(told.astype(bool).sum()) if len(told) else None,
        "arr": float(once["arr"].fillna(0.0).sum()),
        "next_closes": None if rows.empty else str(rows["closes_at"].min())[:10],
        "last_closes": None if rows.empty else str(rows["closes_at"].max())[:10],
    }


def _words(scores: pd.DataFrame, targets: dict[str, Plain], now: datetime) -> list[str]:
    if scores.empty:
        return ["No score has been served yet."]
    if not any(part["closed"] for part in targets.values()):
        closes: Sequence[str] = [
            part["interim"]["next_closes"] for part in targets.values() if part["open"]
        ]
        when = f" The first closes on {day(min(closes))}." if closes else ""
        return [
            f"No label window of a served score has closed by {day(now)}, so there is no "
            f"verdict yet.{when}"
        ]
    return [
        "Served scores compared with the outcomes that followed. Nothing was fitted or selected "
        "afterwards.",
        "Counts include one score per account, model and month; each row of a table counts an "
        "account once, by its first score.",
    ]
