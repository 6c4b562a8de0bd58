"""Risk and growth combined: accounts by risk band and growth band."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from training.evaluation.metrics import clustered_wilson
from training.evaluation.sampling import MODEL
from training.report.content_types import BandPair
from training.validation.current_accounts import scored_accounts, value_of
from training.validation.score_evidence import BANDS, band_of

Plain = dict[str, Any]
Row = Mapping[str, Any]


def what_followed(
    risk: pd.DataFrame,
    growth: pd.DataFrame,
    cuts: Mapping[str, Mapping[str, float]],
    names: tuple[str, str],
) -> list[Plain]:
    """Return observed rates per pair of bands, on rows tested for both targets.

    Parameters
    ----------
    risk, growth : pandas.DataFrame
        Headline rows of the two targets (`training.candidates.train.out_of_time`).
    cuts : mapping
        Target to the lower limits of its bands.
    names : tuple of str
        The two targets.

    Returns
    -------
    list of dict
        Per pair of bands that occurs: risk, growth, n, and per target events, rate, low, high
        (Wilson).
    """
    columns = ["entity_id", "as_of", "label", f"p_{MODEL}"]
    both = risk[columns].merge(growth[columns], on=["entity_id", "as_of"], suffixes=("", "_growth"))
    if both.empty:
        return []
    both["risk"] = band_of(both[f"p_{MODEL}"].to_numpy(dtype=float), cuts[names[0]])
    both["growth"] = band_of(both[f"p_{MODEL}_growth"].to_numpy(dtype=float), cuts[names[1]])
    return [
        {
            "risk": first,
            "growth": second,
            "n": len(part),
            "left": _rate(part["label"], part["entity_id"]),
            "grew": _rate(part["label_growth"], part["entity_id"]),
        }
        for first in BANDS
        for second in BANDS
        if len(part := both[(both["risk"] == first) & (both["growth"] == second)])
    ]


def _rate(label: pd.Series, entity: pd.Series) -> Plain:
    events, n = int(label.sum()), len(label)
    low, high = clustered_wilson(label.to_numpy(dtype=np.float64), entity.to_numpy(dtype=str))
    return {"events": events, "rate": events / n, "low": low, "high": high}


def now(rows: Sequence[Row], names: tuple[str, str]) -> list[BandPair]:
    """Return number and ARR of current accounts in each pair of bands.

    Returns
    -------
    list of dict
        All nine pairs: risk, growth, accounts, arr.
    """
    second = {
        str(row["account_id"]): score["band"] for row, score in scored_accounts(rows, names[1])
    }
    cells: dict[tuple[str, str], list[Row]] = {(a, b): [] for a in BANDS for b in BANDS}
    for row, score in scored_accounts(rows, names[0]):
        band = second.get(str(row["account_id"]))
        if band is not None:
            cells[str(score["band"]), str(band)].append(row)
    return [
        {"risk": risk, "growth": growth, "accounts": len(inside), "arr": value_of(inside)}
        for (risk, growth), inside in cells.items()
    ]


def pair_of(contracts: Mapping[str, Row]) -> tuple[str, str] | None:
    """Return the first churn target and the first expansion target, if both exist."""
    found = {str(contract["outcome"]): name for name, contract in reversed(list(contracts.items()))}
    if "churn" in found and "expansion" in found:
        return found["churn"], found["expansion"]
    return None


def agreement(cells: Iterable[BandPair]) -> float | None:
    """Return the correlation of the two bands over accounts; None if one does not vary."""
    rows = [
        (BANDS.index(str(cell["risk"])), BANDS.index(str(cell["growth"])), cell["accounts"])
        for cell in cells
    ]
    counts = np.array([n for _, _, n in rows], dtype=np.float64)
    if counts.sum() < 2:
        return None
    x, y = (np.array([row[side] for row in rows], dtype=np.float64) for side in (0, 1))
    table = np.cov(np.vstack([x, y]), fweights=counts.astype(np.int64))
    spread = float(np.sqrt(table[0, 0] * table[1, 1]))
    return float(table[0, 1] / spread) if spread > 0 else None
