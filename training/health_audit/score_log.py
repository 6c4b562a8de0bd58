"""Append-only record of scores from each audit, which builds a history over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from configs.runtime.errors import StateError
from configs.runtime.formatting import percent
from configs.runtime.hashing import digest
from configs.runtime.state_directory import new_folder, read_manifest
from training.validation.verdict import MIN_VERDICT_EVENTS, PassMarks

PART = "scores.parquet"
ASSUMED_YEARLY_RATE = 0.10
"""Assumed share of accounts lost in a year, without outcomes."""

KEPT = ["entity_id", "scored_at", "recorded_at", "score", "band", "segment", "arr", "currency",
        "renews_at"]  # fmt: skip
_DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class ScoreLog:
    """Result of a recording.

    Attributes
    ----------
    folder : Path
        The record.
    n_new, n_changed, n_before : int
        New scores, scores that changed since an earlier recording, and scores recorded before.
    changed : pandas.DataFrame or None
        The changed scores (entity_id, scored_at); None without an earlier recording.
    since : datetime or None
        Time of the first recording; None without one.
    """

    folder: Path
    n_new: int
    n_changed: int
    n_before: int
    changed: pd.DataFrame | None
    since: datetime | None


def record_scores(rows: pd.DataFrame, folder: Path, now: datetime) -> ScoreLog:
    """Add the scores that are new or changed since the last recording.

    Parameters
    ----------
    rows : pandas.DataFrame
        `training.health_audit.history.ScoreRows.rows`.
    folder : Path
        The record: one folder per recording, never rewritten.
    now : datetime
        The clock, UTC.
    """
    before = seen_scores(folder)
    known = _latest(before)
    offered = rows.drop_duplicates(["entity_id", "scored_at"], keep="last")
    joined = offered.merge(
        known, on=["entity_id", "scored_at"], how="left", suffixes=("", "_before"), indicator=True
    )
    is_new = (joined["_merge"] == "left_only").to_numpy()
    is_changed = ~is_new & ~_same(joined)
    added = offered[is_new | is_changed]
    if len(added):
        _append(added, folder, now)
    since = None if before.empty else before["recorded_at"].min().to_pydatetime()
    return ScoreLog(
        folder,
        int(is_new.sum()),
        int(is_changed.sum()),
        len(before),
        None if before.empty else offered.loc[is_changed, ["entity_id", "scored_at"]],
        since,
    )


def _same(joined: pd.DataFrame) -> np.ndarray:
    score, before = joined["score"], joined["score_before"]
    same_score = np.isclose(score, before, rtol=0, atol=1e-9) | (score.isna() & before.isna())
    band = joined["band"].fillna("") == joined["band_before"].fillna("")
    same: np.ndarray = same_score & band.to_numpy()
    return same


def _latest(before: pd.DataFrame) -> pd.DataFrame:
    ordered = before.sort_values("recorded_at", kind="stable")
    last = ordered.drop_duplicates(["entity_id", "scored_at"], keep="last")
    return last[["entity_id", "scored_at", "score", "band"]]


def _append(added: pd.DataFrame, folder: Path, now: datetime) -> None:
    made = added.assign(recorded_at=pd.Timestamp(now).as_unit("us"))[KEPT]
    name = f"{now:%Y%m%dT%H%M%SZ}-{_identity(made)}"
    with new_folder(folder / name, {"recorded_at": now.isoformat(), "rows": len(made)}) as aside:
        made.to_parquet(aside / PART, index=False)


def _identity(made: pd.DataFrame) -> str:
    hashed = pd.util.hash_pandas_object(made[["entity_id", "scored_at", "score"]], index=False)
    return digest(int(hashed.sum()), len(made), length=8)


def seen_scores(folder: Path) -> pd.DataFrame:
    """Return all recorded scores, oldest first; ``recorded_at`` is the time of the recording.

    Raises
    ------
    StateError
        A recording is damaged.
    """
    parts = []
    for part in sorted(folder.glob("*/")) if folder.is_dir() else ():
        if read_manifest(part) is None:
            continue
        try:
            parts.append(pd.read_parquet(part / PART))
        except (OSError, ValueError) as error:
            raise StateError(
                f"a recording is damaged: {error}", where=str(part), fix="restore it from a copy"
            ) from error
    if not parts:
        empty = pd.DataFrame(columns=KEPT)
        for name in ("scored_at", "recorded_at", "renews_at"):
            empty[name] = empty[name].astype("datetime64[us, UTC]")
        return empty.astype({"score": "float64", "arr": "float64"})
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class LabelWait:
    """Dates of the first and the full verdict.

    Attributes
    ----------
    losses_per_year : float
        Expected losses at the rate of `source`.
    source : str
        Source of the rate.
    first_on, full_on : datetime
        Dates from which any verdict, and the best verdict, is possible.
    """

    losses_per_year: float
    source: str
    first_on: datetime
    full_on: datetime


def wait_for(
    since: datetime,
    n_accounts: int,
    decided: pd.Series | None,
    horizon_days: int,
    marks: PassMarks,
) -> LabelWait:
    """Return the dates at which enough losses are expected.

    A loss counts after the end of the label window of a recorded score; the first window ends one
    horizon after the first recording.

    Parameters
    ----------
    since : datetime
        The first recording.
    n_accounts : int
        Accounts recorded.
    decided : pandas.Series or None
        Past decisions to leave, if known.
    horizon_days : int
        Length of a label window.
    marks : PassMarks
        Events and periods needed for the best verdict.

    Examples
    --------
    >>> from datetime import UTC
    >>> wait = wait_for(datetime(2026, 1, 1, tzinfo=UTC), 500, None, 91, PassMarks())
    >>> wait.losses_per_year, f"{wait.first_on:%Y-%m-%d}", f"{wait.full_on:%Y-%m-%d}"
    (50.0, '2026-05-28', '2028-01-01')
    """
    per_year, source = _rate(n_accounts, decided)
    first_days = max(horizon_days, MIN_VERDICT_EVENTS * _DAYS_PER_YEAR / per_year)
    full_days = max(
        marks.min_folds * 91 + horizon_days, marks.min_events / per_year * _DAYS_PER_YEAR
    )
    return LabelWait(
        per_year,
        source,
        since + timedelta(days=math.ceil(first_days)),
        since + timedelta(days=round(full_days)),
    )


def _rate(n_accounts: int, decided: pd.Series | None) -> tuple[float, str]:
    if decided is not None and len(decided) >= 2:
        days = max((decided.max() - decided.min()).total_seconds() / 86_400.0, 30.0)
        return len(decided) / days * _DAYS_PER_YEAR, "the losses in the outcomes file"
    return max(ASSUMED_YEARLY_RATE * n_accounts, 0.5), (
        f"an assumed loss of {percent(ASSUMED_YEARLY_RATE)} of accounts a year"
    )
