"""Rolling-origin folds with embargo: train on labels known at a cut-off, test on later rows.

The cut-off T of a fold is an as_of of the grid. A row is a training row if its label was known by
T, including the grace period, so no label window of a training row extends past T; a row is a test
row if its as_of is in ``[T, until)``, as if a model fitted at T had scored the accounts from then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError
from training.data.training_frame import TrainingFrame

MIN_CLASS_ACCOUNTS = 5
"""Smallest number of entities of each class in the training rows of a fold."""

Over = Literal["time", "accounts"]

NOT_OUT_OF_TIME = (
    "not out of time: random folds on one snapshot hold out accounts, not a later period; "
    "no claim about the future"
)
"""Note shown with every measure of a table with a single as_of."""


@dataclass(frozen=True)
class Fold:
    """One cut-off, by row positions in the training frame.

    Attributes
    ----------
    number : int
        1 is the oldest.
    cutoff : pandas.Timestamp
        Time T at which the model is fitted.
    until : pandas.Timestamp
        End of the test period, exclusive.
    train : numpy.ndarray
        Rows whose label was known by the cut-off.
    test : numpy.ndarray
        Rows with as_of in [cutoff, until).
    headline : numpy.ndarray
        First test row of each entity, so that each counts once.
    repeat : int
        Number of the assignment of accounts to folds, from 1; always 1 for folds in time.
    """

    number: int
    cutoff: pd.Timestamp
    until: pd.Timestamp
    train: np.ndarray
    test: np.ndarray
    headline: np.ndarray
    repeat: int = 1


@dataclass(frozen=True)
class Folds:
    """Folds of one training run, oldest first.

    Attributes
    ----------
    folds : tuple of Fold
        At least one.
    over : str
        ``time``; or ``accounts`` for a table with a single as_of, which has no later period.
    notes : tuple of str
        Restrictions compared with the configuration.
    """

    folds: tuple[Fold, ...]
    over: Over = "time"
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.folds)

    @property
    def cutoffs(self) -> list[tuple[int, pd.Timestamp]]:
        """Number and cut-off of each fold."""
        return [(fold.number, fold.cutoff) for fold in self.folds]

    @property
    def first(self) -> Folds:
        """Folds of the first assignment: every row is tested once."""
        return replace(self, folds=tuple(fold for fold in self.folds if fold.repeat == 1))


def entity_codes(rows: pd.DataFrame) -> np.ndarray:
    """Return each row's entity as a number 0..m−1."""
    codes: np.ndarray = np.unique(rows["entity_id"].to_numpy(dtype=str), return_inverse=True)[1]
    return codes


def count_events(rows: pd.DataFrame) -> int:
    """Return distinct events among the positive rows: one per entity and decision.

    Several snapshots precede the same event; it is counted once.
    """
    positive = rows.loc[rows["label"] == 1, ["entity_id", "decision_at"]]
    return len(positive.drop_duplicates())


def make_folds(
    frame: TrainingFrame, *, folds: int, fold_days: int, seed: int = 0, repeats: int = 1
) -> Folds:
    """Return up to `folds` rolling-origin folds, the last ending with the last as_of.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    folds : int
        Requested number of folds.
    fold_days : int
        Length of one test period, in days.
    seed : int
        Of the random assignment of accounts, for a table with a single as_of.
    repeats : int
        Number of random assignments.

    Raises
    ------
    DataError
        No rows, one entity, one class, or no cut-off with both classes before and after it.
    """
    _check_learnable(frame)
    moments = frame.rows["as_of"].drop_duplicates().sort_values()
    if len(moments) == 1:
        return _account_folds(frame, folds, seed, repeats)
    windows = _test_windows(moments, folds, fold_days)
    candidates = [_fold(frame.rows, cutoff, until) for cutoff, until in windows]
    usable = [fold for fold in candidates if _is_usable(frame, fold)]
    if not usable:
        raise _no_cutoff(frame, fold_days)
    numbered = tuple(_numbered(fold, number) for number, fold in enumerate(usable, start=1))
    short = folds - len(usable)
    note = (
        f"{len(usable)} of {folds} folds: {short} cut-offs have too few resolved labels before "
        "them, or only one class on either side"
    )
    return Folds(numbered, notes=(note,) if short else ())


def _check_learnable(frame: TrainingFrame) -> None:
    where = f"target {frame.target}"
    n_entities, label = frame.rows["entity_id"].nunique(), frame.label
    if n_entities < 2:
        raise DataError(
            f"{n_entities} account with resolved labels; a model needs more",
            where=where,
            fix="check the cohort and the mapping of account_id",
        )
    if label.sum() == 0:
        raise DataError(
            f"none of {len(frame):,} rows has the event, so nothing can be predicted",
            where=where,
            fix="check the label contract, or use a longer horizon_days",
        )
    if label.sum() == len(frame):
        raise DataError(
            f"all {len(frame):,} rows have the event, so nothing can be distinguished",
            where=where,
            fix="check that accounts that stayed are included",
        )


def _test_windows(
    moments: pd.Series, folds: int, fold_days: int
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return (cutoff, until) pairs on the grid, oldest first."""
    last = moments.iloc[-1]
    until = last + pd.Timedelta(microseconds=1)
    windows = []
    for back in range(1, folds + 1):
        start = last - pd.Timedelta(days=back * fold_days)
        inside = moments[(moments > start) & (moments < until)]
        if inside.empty:
            continue
        windows.append((inside.iloc[0], until))
        until = inside.iloc[0]
    return windows[::-1]


def _fold(rows: pd.DataFrame, cutoff: pd.Timestamp, until: pd.Timestamp) -> Fold:
    train = np.flatnonzero(rows["label_known_at"] <= cutoff)
    test = np.flatnonzero((rows["as_of"] >= cutoff) & (rows["as_of"] < until))
    return Fold(0, cutoff, until, train, test, _first_per_entity(rows, test))


def _first_per_entity(rows: pd.DataFrame, positions: np.ndarray) -> np.ndarray:
    chosen = rows.iloc[positions][["entity_id", "as_of"]]
    order = np.argsort(chosen["as_of"].to_numpy(), kind="stable")
    first = ~chosen.iloc[order]["entity_id"].duplicated().to_numpy()
    return np.sort(positions[order[first]])


def _numbered(fold: Fold, number: int) -> Fold:
    return Fold(number, fold.cutoff, fold.until, fold.train, fold.test, fold.headline)


def _is_usable(frame: TrainingFrame, fold: Fold) -> bool:
    train = frame.rows.iloc[fold.train]
    accounts = [train.loc[train["label"] == outcome, "entity_id"].nunique() for outcome in (0, 1)]
    tested = frame.label[fold.headline]
    return min(accounts) >= MIN_CLASS_ACCOUNTS and 0 < tested.sum() < len(tested)


def _no_cutoff(frame: TrainingFrame, fold_days: int) -> DataError:
    first, last = frame.rows["as_of"].min(), frame.rows["as_of"].max()
    wait = (frame.rows["label_known_at"] - frame.rows["as_of"]).max()
    return DataError(
        f"no cut-off between {first:%Y-%m-%d} and {last:%Y-%m-%d} has {MIN_CLASS_ACCOUNTS} "
        f"accounts of each outcome known before it and both outcomes after it; labels take "
        f"{wait.days} days to be known and test periods are {fold_days} days",
        where=f"target {frame.target}",
        fix="load a longer history, or set a shorter horizon_days or training.fold_days",
    )


def _account_folds(frame: TrainingFrame, folds: int, seed: int, repeats: int) -> Folds:
    """Assign the entities of a single as_of to folds at random, balanced by events."""
    moment = frame.rows["as_of"].iloc[0]
    until = moment + pd.Timedelta(microseconds=1)
    made: list[Fold] = []
    for repeat in range(repeats):
        deal = _assign(frame, folds, seed + repeat)
        for number in range(int(deal.max()) + 1):
            test = np.flatnonzero(deal == number)
            train = np.flatnonzero(deal != number)
            headline = _first_per_entity(frame.rows, test)
            made.append(
                Fold(len(made) + 1, moment, until, train, test, headline, repeat=repeat + 1)
            )
    return Folds(tuple(made), over="accounts", notes=(NOT_OUT_OF_TIME,))


def _assign(frame: TrainingFrame, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row: rows of an entity together, balanced by events."""
    code = entity_codes(frame.rows)
    n_entities = int(code.max()) + 1
    had_event = np.zeros(n_entities, dtype=bool)
    np.logical_or.at(had_event, code, frame.label == 1)
    n_folds = min(max(folds, 2), int(had_event.sum()), int((~had_event).sum()))
    if n_folds < 2:
        raise DataError(
            "fewer than two accounts of an outcome, so nothing can be held out",
            where=f"target {frame.target}",
        )
    shuffled = np.random.default_rng(seed).permutation(n_entities)
    ordered = shuffled[np.argsort(had_event[shuffled], kind="stable")]
    deal = np.empty(n_entities, dtype=np.int64)
    deal[ordered] = np.arange(n_entities) % n_folds
    dealt: np.ndarray = deal[code]
    return dealt


def describe(frame: TrainingFrame, folds: Folds) -> pd.DataFrame:
    """Return one row per fold with its training and test periods.

    Returns
    -------
    pandas.DataFrame
        Columns fold, cutoff, test_until (exclusive), train_from, train_to (as_of), known_to
        (latest training label), n_train, n_train_events, n_test, n_headline, n_headline_events.
    """
    rows = frame.rows
    table = []
    for fold in folds.folds:
        train, headline = rows.iloc[fold.train], rows.iloc[fold.headline]
        table.append(
            {
                "fold": fold.number,
                "cutoff": fold.cutoff,
                "test_until": fold.until,
                "train_from": train["as_of"].min(),
                "train_to": train["as_of"].max(),
                "known_to": train["label_known_at"].max(),
                "n_train": len(train),
                "n_train_events": count_events(train),
                "n_test": len(fold.test),
                "n_headline": len(headline),
                "n_headline_events": int(headline["label"].sum()),
            }
        )
    return pd.DataFrame(table)
