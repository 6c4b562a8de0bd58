"""Bands of a release: probability cuts sized to what the team can work, frozen on publication.

A band and those above it hold as many accounts of the book as the team can work in
``serving.band_days``. The cuts are probabilities, so an account changes its band when its own
estimate changes, never because others do. What they were sized by is kept with the release.
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
"""A band never starts below this multiple of the base rate (of its odds, where rates are high).

With room for everybody, an account of the usual risk is still no account at high risk.
"""

HIGHEST_CUT = 0.95
OFTEN = 0.25
"""Base rate from which multiples are of the odds."""

SURE_AT_MOST, UNSURE_AT_MOST = 0.6, 1.0
"""Standard deviations of the log-odds beyond which no score is of high, or of medium confidence,
however usual that is for the model."""


@dataclass(frozen=True)
class FrozenBands:
    """What a release freezes for one target.

    Attributes
    ----------
    cuts : dict of str to float
        Probability from which each band holds.
    basis : dict
        capacity_per_month, and per band the days of work and the accounts it and those above it
        held; accounts that were asked, and ``counted_in`` what; confidence_limits.
    """

    cuts: dict[str, float]
    basis: dict[str, Any]


def frozen_bands(
    scores: Scores, base_rate: float, company: Company, counted_in: str
) -> FrozenBands:
    """Return the cuts and limits that a release freezes for one target.

    Parameters
    ----------
    scores : Scores
        Of all accounts that are asked, of one moment.
    base_rate : float
        Of the target, 0 to 1.
    company : Company
        Its capacity and ``band_days``.
    counted_in : str
        Where the scores are from, in words.
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
    return math.floor(cut * 1e6) / 1e6  # rounded down, so that the account at the cut stays in


def cut_for(p: np.ndarray, wanted: float) -> float:
    """Return the lowest probability at which the band holds no more accounts than are wanted.

    Parameters
    ----------
    p : numpy.ndarray
        (accounts,) probabilities.
    wanted : float
        Accounts the band and those above it should hold. Equal probabilities stay together; where
        the highest alone are more than that, they are the band.

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
    """Return a multiple of a rate while that is possible, of its odds where rates are high.

    >>> multiple_of(0.1, 1.5), multiple_of(0.5, 1.5)
    (0.15000000000000002, 0.6)
    """
    if base_rate <= OFTEN:
        return base_rate * multiple
    odds = multiple * base_rate / max(1.0 - base_rate, 1e-9)
    return odds / (1.0 + odds)


def confidence_limits(spread: np.ndarray) -> tuple[float, float]:
    """Return up to which spread a score is of high and of medium confidence: thirds of the book.

    So the word tells accounts apart, whatever the model. Absolute limits hold all the same: what
    nothing is known of is never of high confidence, and what is hardly in doubt never of low.

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
    """Return the finished vector folder of the newest book, if there is one."""
    folder = state.snapshots / "vector" / feature_hash
    days = sorted((item for item in folder.glob("*-*-*") if item.is_dir()), reverse=True)
    return next((item for item in days if read_manifest(item) is not None), None)


def is_asked(outcome: str, facts: Mapping[str, Any]) -> bool:
    """Say whether the question makes sense for an account: who is full cannot grow."""
    return outcome != "expansion" or facts.get("has_room") is not False


def book_scores(folder: Path, bundle: Bundle, names: list[str]) -> Scores:
    """Return the scores of every account of a book that is asked.

    Parameters
    ----------
    folder : Path
        Of `newest_vectors`.
    bundle : Bundle
        The model.
    names : list of str
        The features in the order of the book's vectors.
    """
    table = pq.read_table(folder / "part.parquet", columns=["values", "facts"])
    facts = [orjson.loads(text) for text in table["facts"].to_pylist()]
    asked = [item["status"] == "scored" and is_asked(bundle.outcome, item) for item in facts]
    flat = table["values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = flat.astype(np.float64).reshape(len(table), len(names))[np.array(asked, dtype=bool)]
    place = {name: i for i, name in enumerate(names)}
    positions = [place[name] for name in bundle.encoder.names]
    return bundle.predict(bundle.encoder.encode_numbers(values[:, positions]).matrix)


def last_tested(folder: Path) -> Scores:
    """Return the out-of-time scores of the last moment of the tests; without their spread.

    What stands for a book where there is none, as for a ready-made table.
    """
    table = pq.read_table(folder / "predictions.parquet", columns=["as_of", "repeat", "p_model"])
    first = table.filter(pc.equal(table["repeat"], 1))  # accounts are dealt into folds repeatedly
    last = first.filter(pc.equal(first["as_of"], pc.max(first["as_of"])))
    p = last["p_model"].to_numpy().astype(np.float64)
    return Scores(p, np.log(p / (1.0 - p)), np.empty(0))
