"""Medians of features by risk band, within groups of similar accounts.

Computed once per score run from its predicted accounts and shown next to each fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.runtime.state_directory import read_json

if TYPE_CHECKING:
    from serving.batch.score_book import ScoreRun

LEVELS = "levels.json"

BANDS = ("low", "elevated", "high")

FEWEST = 5
"""Smallest number of accounts with a value for a median."""

ALL_ACCOUNTS = "all accounts"
"""Replaces a group in which only one band has enough accounts."""


@dataclass(frozen=True)
class BandMedians:
    """Medians of features by band.

    Attributes
    ----------
    is_all_accounts : bool
        Computed from all predicted accounts, because the group is too small.
    medians : mapping
        Feature to one median per band (`BANDS`), None where too few values are known.
    """

    is_all_accounts: bool
    medians: Mapping[str, Sequence[float | None]]


def band_medians(
    values: np.ndarray, names: Sequence[str], groups: Sequence[str], bands: Sequence[str]
) -> dict[str, dict[str, list[float | None]]]:
    """Return the median of each feature by group and band (`BANDS`).

    Parameters
    ----------
    values : numpy.ndarray
        One row per predicted account, one column per feature; NaN is missing.
    names : sequence of str
        Names of the features.
    groups, bands : sequence of str
        One per row: name of the group of similar accounts, and band of the risk.

    Returns
    -------
    dict
        group → feature → [low, elevated, high], None where fewer than `FEWEST` values are known;
        `ALL_ACCOUNTS` is an additional group. Features without any median are left out.

    Examples
    --------
    >>> values = np.array([[1.0]] * 10 + [[5.0]] * 10)
    >>> band_medians(values, ["logins"], ["small"] * 20, ["low"] * 10 + ["high"] * 10)["small"]
    {'logins': [1.0, None, 5.0]}
    """
    groups_of, bands_of = np.array(groups, dtype=object), np.array(bands, dtype=object)
    chosen = {name: groups_of == name for name in sorted(set(groups))}
    chosen[ALL_ACCOUNTS] = np.ones(len(values), dtype=bool)
    return {
        group: _by_feature(names, [_medians(values[here & (bands_of == band)]) for band in BANDS])
        for group, here in chosen.items()
    }


def _medians(values: np.ndarray) -> np.ndarray:
    """Return the median of each column, NaN where too few values are known."""
    n_known = np.sum(~np.isnan(values), axis=0)
    found = np.full(values.shape[1], np.nan)
    enough = n_known >= FEWEST
    if enough.any():
        found[enough] = np.nanmedian(values[:, enough], axis=0)
    return found


def _by_feature(
    names: Sequence[str], columns: Sequence[np.ndarray]
) -> dict[str, list[float | None]]:
    found = {}
    for i, name in enumerate(names):
        row = [None if np.isnan(column[i]) else float(column[i]) for column in columns]
        if any(value is not None for value in row):
            found[name] = row
    return found


def levels_of(run: ScoreRun, group: str) -> BandMedians | None:
    """Return the medians of a group of similar accounts in a score run.

    None for runs of earlier versions without medians, and for runs with only one band.
    """
    found = _read(run.folder / LEVELS)
    for name in (group, ALL_ACCOUNTS):
        medians = found.get(name, {})
        if sum(any(row[i] is not None for row in medians.values()) for i in range(len(BANDS))) > 1:
            return BandMedians(name == ALL_ACCOUNTS, medians)
    return None


@lru_cache(maxsize=2)
def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except FileNotFoundError:
        return {}
