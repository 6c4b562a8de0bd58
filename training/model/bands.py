"""Risk bands of a release: probability cuts sized by the team's capacity, frozen on publication.

A band and the bands above it contain as many scored accounts as the team can work in
``serving.band_days``. The cuts are probabilities, so an account changes its band only when its own
score changes. The basis of the cuts is stored with the release.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime.state_directory import State, read_manifest
from configs.schema.company import Company
from configs.schema.team_capacity import workable
from training.model.bundle import CONFIDENCE_LIMITS, Bundle, Scores

FLOORS = {"elevated": 1.2, "high": 1.5}
"""Smallest start of each band as a multiple of the base rate (of its odds for high rates).

With capacity for all accounts, an account of average risk is still not at high risk.
"""

HIGHEST_CUT = 0.95
OFTEN = 0.25
"""Base rate from which multiples apply to the odds."""

SURE_AT_MOST, UNSURE_AT_MOST = 0.6, 1.0
"""Standard deviations of the log-odds above which no score has high, and medium, confidence."""


@dataclass(frozen=True)
class FrozenBands:
    """Bands and confidence limits of one target in a release.

    Attributes
    ----------
    cuts : dict of str to float
        Probability at which each band starts.
    basis : dict
        capacity_per_month; per band the days of work and the number of accounts in it and above;
        number of scored accounts and their source (``counted_in``); confidence_limits.
    """

    cuts: dict[str, float]
    basis: dict[str, Any]


def frozen_bands(
    scores: Scores, base_rate: float, company: Company, counted_in: str
) -> FrozenBands:
    """Return the bands and confidence limits of one target.

    Parameters
    ----------
    scores : Scores
        Of all applicable accounts at one as_of.
    base_rate : float
        Of the target, 0 to 1.
    company : Company
        Its capacity and ``band_days``.
    counted_in : str
        Source of the scores, in words.
    """
    serving = company.serving
    cuts = {
        str(name): _cut(scores.p, base_rate, name, workable(serving.capacity_per_month, days))
        for name, days in sorted(serving.band_days.items())
    }
    basis = {
        "capacity_per_month": serving.capacity_per_month,
        "band_days": {str(name): days for name, days in serving.band_days.items()},
        "accounts_at_least": {name: int((scores.p >= cut).sum()) for name, cut in cuts.items()},
        "accounts": len(scores.p),
        "counted_in": counted_in,
        "confidence_limits": list(confidence_limits(scores.spread)),
    }
    return FrozenBands(cuts, basis)


def _cut(p: np.ndarray, base_rate: float, band: str, wanted: float) -> float:
    cut = min(max(cut_for(p, wanted), multiple_of(base_rate, FLOORS[band])), HIGHEST_CUT)
    return (
        math.floor(cut * 1e6) / 1e6
    )  # rounded down, so that the account at the cut is in the band


def cut_for(p: np.ndarray, wanted: float) -> float:
    """Return the lowest probability at which the band has at most `wanted` accounts.

    Parameters
    ----------
    p : numpy.ndarray
        (accounts,) probabilities.
    wanted : float
        Number of accounts in the band and above. Equal probabilities stay together; if there are
        more at the highest probability, they are the band.

    Examples
    --------
    >>> cut_for(np.array([0.1, 0.2, 0.3, 0.4]), 2), cut_for(np.array([0.1, 0.3, 0.3, 0.4]), 2)
    (0.3, 0.4)
    >>> cut_for(np.array([0.1, 0.4, 0.4]), 1), cut_for(np.array([0.1, 0.2]), 9)
    (0.4, 0.1)
    """
    if len(p) == 0:
        return HIGHEST_CUT
    levels, counts = np.unique(p, return_counts=True)
    held = np.cumsum(counts[::-1])[::-1]
    fits = levels[held <= wanted]
    return float(fits[0] if len(fits) else levels[-1])


def multiple_of(base_rate: float, multiple: float) -> float:
    """Return a multiple of a rate, or of its odds for high rates.

    >>> multiple_of(0.1, 1.5), multiple_of(0.5, 1.5)
    (0.15000000000000002, 0.6)
    """
    if base_rate <= OFTEN:
        return base_rate * multiple
    odds = multiple * base_rate / max(1.0 - base_rate, 1e-9)
    return odds / (1.0 + odds)


def confidence_limits(spread: np.ndarray) -> tuple[float, float]:
    """Return the spreads up to which a score has high and medium confidence: terciles.

    Terciles of the scored accounts distinguish accounts for any model; absolute limits also apply,
    so that very uncertain scores never have high and very certain scores never low confidence.

    >>> confidence_limits(np.array([0.3, 0.4, 0.5]))
    (0.4, 0.5)
    >>> confidence_limits(np.full(9, 0.1)), confidence_limits(np.full(9, 2.0))
    ((0.25, 0.25), (0.6, 1.0))
    """
    if len(spread) == 0:
        return CONFIDENCE_LIMITS
    low, high = np.quantile(spread, [1 / 3, 2 / 3], method="higher").tolist()
    least = CONFIDENCE_LIMITS[0]
    return min(max(low, least), SURE_AT_MOST), min(max(high, least), UNSURE_AT_MOST)


def newest_vectors(state: State, feature_hash: str) -> Path | None:
    """Return the newest finished folder of feature vectors, if there is one."""
    folder = state.snapshots / "vector" / feature_hash
    days = sorted((item for item in folder.glob("*-*-*") if item.is_dir()), reverse=True)
    return next((item for item in days if read_manifest(item) is not None), None)


def is_applicable(outcome: str, facts: Mapping[str, Any]) -> bool:
    """Return whether an outcome applies to an account: without room there is no expansion."""
    return outcome != "expansion" or facts.get("has_room") is not False


def book_scores(folder: Path, bundle: Bundle, names: list[str]) -> Scores:
    """Return the scores of all applicable accounts of a vector folder.

    Parameters
    ----------
    folder : Path
        Of `newest_vectors`.
    bundle : Bundle
        The model.
    names : list of str
        The features in the order of the vectors.
    """
    table = pq.read_table(folder / "part.parquet", columns=["values", "facts"])
    facts = [orjson.loads(text) for text in table["facts"].to_pylist()]
    asked = [item["status"] == "scored" and is_applicable(bundle.outcome, item) for item in facts]
    flat = table["values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = flat.astype(np.float64).reshape(len(table), len(names))[np.array(asked, dtype=bool)]
    place = {name: i for i, name in enumerate(names)}
    positions = [place[name] for name in bundle.encoder.names]
    return bundle.predict(bundle.encoder.encode_numbers(values[:, positions]).matrix)


def last_tested(folder: Path) -> Scores:
    """Return the out-of-time scores of the last tested as_of, without their spread.

    Used instead of scored accounts where there are none, as for a ready-made table.
    """
    table = pq.read_table(folder / "predictions.parquet", columns=["as_of", "repeat", "p_model"])
    first = table.filter(pc.equal(table["repeat"], 1))  # accounts are assigned to folds repeatedly
    last = first.filter(pc.equal(first["as_of"], pc.max(first["as_of"])))
    p = last["p_model"].to_numpy().astype(np.float64)
    return Scores(p, np.log(p / (1.0 - p)), np.empty(0))
