"""Similar past accounts and what became of them: counts of what was observed, not an estimate.

Similar means: in the same segment, asked the same question (a renewal, or the horizon), and with an
estimate near this one. The estimates compared are out of time: each was made by a model that had
not seen what followed. One row per account, its latest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime.state_directory import State, read_manifest

ENOUGH = 20
"""Fewer similar accounts than this are widened: first to all segments, then given up."""

EXAMPLES = 5

_COLUMNS = ["entity_id", "as_of", "label", "segment", "is_under_contract", "is_headline", "p_model"]


@dataclass(frozen=True)
class SimilarAccounts:
    """What became of similar past accounts.

    Attributes
    ----------
    n, n_events : int
        Accounts, and those that left (or grew, by the target).
    low, high : float
        The range of estimates that counts as near, 0 to 1.
    segment : str
        The segment they share; empty when all segments were taken.
    since, until : str
        First and last as_of, ISO 8601 dates.
    examples : tuple of mapping
        The latest few: entity_id, as_of, probability, label.
    """

    n: int
    n_events: int
    low: float
    high: float
    segment: str
    since: str
    until: str
    examples: tuple[Mapping[str, Any], ...]


class PastCase:
    """Out-of-time estimates of one target with what followed.

    Parameters
    ----------
    table : pyarrow.Table
        As written by a training: one row per account and as_of that was tested.
    """

    def __init__(self, table: pa.Table) -> None:
        kept = table.filter(table["is_headline"])
        kept = kept.sort_by([("as_of", "descending"), ("entity_id", "ascending")])
        self._p = kept["p_model"].to_numpy()
        self._label = kept["label"].to_numpy()
        self._segment = np.array(pc.fill_null(kept["segment"], "").to_pylist(), dtype=object)
        self._is_renewal = np.array(kept["is_under_contract"].to_pylist(), dtype=bool)
        self._entity = np.array(kept["entity_id"].to_pylist(), dtype=object)
        self._as_of = [moment.date().isoformat() for moment in kept["as_of"].to_pylist()]

    @classmethod
    def of(cls, state: State, target: str, sha: str) -> PastCase | None:
        """Read the tests of a published model; None when what lies there is of another one."""
        folder: Path = state.training / target
        manifest = read_manifest(folder)
        path = folder / "predictions.parquet"
        if manifest is None or manifest.get("sha") != sha or not path.is_file():
            return None
        names = pq.read_schema(path).names
        if any(name not in names for name in _COLUMNS):
            return None
        return cls(pq.read_table(path, columns=_COLUMNS))

    def like(
        self, p: float, segment: str | None, *, is_renewal: bool, entity_id: str = ""
    ) -> SimilarAccounts | None:
        """Return what became of accounts with an estimate near `p`; None when they are too few.

        Parameters
        ----------
        p : float
            The estimate, 0 to 1. Near is within a quarter of its odds' logarithm: e^±0.25.
        segment : str or None
            Of the account.
        is_renewal : bool
            Asked about a renewal.
        entity_id : str
            The account itself, left out.
        """
        low, high = near(p)
        fits = (self._p >= low) & (self._p <= high) & (self._is_renewal == is_renewal)
        fits &= self._entity != entity_id
        for wanted in dict.fromkeys((segment or "", "")):
            chosen = _first_of_each(
                self._entity, np.flatnonzero(fits & ((self._segment == wanted) | (wanted == "")))
            )
            if len(chosen) >= ENOUGH:
                return self._told(chosen, low, high, wanted)
        return None

    def _told(self, chosen: np.ndarray, low: float, high: float, segment: str) -> SimilarAccounts:
        days = [self._as_of[i] for i in chosen]
        return SimilarAccounts(
            n=len(chosen),
            n_events=int(self._label[chosen].sum()),
            low=low,
            high=high,
            segment=segment,
            since=min(days),
            until=max(days),
            examples=tuple(
                {
                    "entity_id": str(self._entity[i]),
                    "as_of": self._as_of[i],
                    "probability": float(self._p[i]),
                    "label": int(self._label[i]),
                }
                for i in chosen[:EXAMPLES]
            ),
        )


def near(p: float) -> tuple[float, float]:
    """Return the range of estimates near one: its odds times and over e^0.25 (about 1.28).

    >>> [round(end, 3) for end in near(0.3)], near(0.0)
    ([0.25, 0.355], (0.0, 0.0))
    """
    if not 0.0 < p < 1.0:
        return p, p
    odds = p / (1.0 - p)
    low, high = odds * np.exp(-0.25), odds * np.exp(0.25)
    return float(low / (1.0 + low)), float(high / (1.0 + high))


def _first_of_each(entities: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the first place of every entity, in order: the latest, as rows are newest first."""
    seen: set[str] = set()
    kept = [i for i in places if not (entities[i] in seen or seen.add(entities[i]))]  # type: ignore[func-returns-value]
    return np.array(kept, dtype=np.int64)
