"""Outcomes of similar past accounts: observed counts, not an estimate.

Similar accounts have the same segment, the same question (renewal or horizon) and a similar
estimate. The estimates are from the out-of-time test of the model. One row per account, its latest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime.state_directory import State, read_manifest

ENOUGH = 20
"""Minimum number of similar accounts; with fewer, all segments are used, otherwise none."""

EXAMPLES = 5

_COLUMNS = ["entity_id", "as_of", "label", "segment", "is_under_contract", "is_headline", "p_model"]


class PastAccount(NamedTuple):
    """Past estimate of one account with its outcome."""

    entity_id: str
    as_of: str
    probability: float
    label: int


@dataclass(frozen=True)
class SimilarAccounts:
    """Outcomes of similar past accounts.

    Attributes
    ----------
    n, n_events : int
        Number of accounts, and of events.
    low, high : float
        Range of similar estimates, 0 to 1.
    segment : str
        Common segment; empty for all segments.
    since, until : str
        First and last as_of, ISO 8601 dates.
    examples : tuple of PastAccount
        The latest accounts.
    """

    n: int
    n_events: int
    low: float
    high: float
    segment: str
    since: str
    until: str
    examples: tuple[PastAccount, ...]


class PastCase:
    """Out-of-time estimates of one target with their outcomes.

    Parameters
    ----------
    table : pyarrow.Table
        Predictions of a training: one row per account and tested as_of.
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
        """Read the test predictions of a published model; None if they belong to another model."""
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
        """Return the outcomes of accounts with an estimate similar to `p`; None if too few.

        Parameters
        ----------
        p : float
            The estimate, 0 to 1; similar estimates have log-odds within ±0.25.
        segment : str or None
            Segment of the account.
        is_renewal : bool
            Whether the estimate is about a renewal.
        entity_id : str
            The account itself, which is left out.
        """
        low, high = near(p)
        fits = (self._p >= low) & (self._p <= high) & (self._is_renewal == is_renewal)
        fits &= self._entity != entity_id
        for wanted in dict.fromkeys((segment or "", "")):
            chosen = _first_of_each(
                self._entity, np.flatnonzero(fits & ((self._segment == wanted) | (wanted == "")))
            )
            if len(chosen) >= ENOUGH:
                return self._summary(chosen, low, high, wanted)
        return None

    def _summary(
        self, chosen: np.ndarray, low: float, high: float, segment: str
    ) -> SimilarAccounts:
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
                PastAccount(
                    str(self._entity[i]), self._as_of[i], float(self._p[i]), int(self._label[i])
                )
                for i in chosen[:EXAMPLES]
            ),
        )


def near(p: float) -> tuple[float, float]:
    """Return the range of similar estimates: odds divided and multiplied by e^0.25 (about 1.28).

    >>> [round(end, 3) for end in near(0.3)], near(0.0)
    ([0.25, 0.355], (0.0, 0.0))
    """
    if not 0.0 < p < 1.0:
        return p, p
    odds = p / (1.0 - p)
    low, high = odds * np.exp(-0.25), odds * np.exp(0.25)
    return float(low / (1.0 + low)), float(high / (1.0 + high))


def _first_of_each(entities: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the first index of every entity: its latest row, as rows are newest first."""
    seen: set[str] = set()
    kept = [i for i in places if not (entities[i] in seen or seen.add(entities[i]))]  # type: ignore[func-returns-value]
    return np.array(kept, dtype=np.int64)
