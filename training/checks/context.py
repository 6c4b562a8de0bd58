"""Input of the checks: one training run, and evidence from its source tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from configs.schema.company import Company
from training.data.splits import Folds
from training.data.training_frame import TrainingFrame
from training.evaluation.evaluate import Evaluation
from training.fitting.fit import TrainingConfig


@dataclass(frozen=True)
class Visibility:
    """Basis of the time at which rows of a source table became known.

    Attributes
    ----------
    known_basis : str
        ``column``: a source column; ``delay``, ``default``: derived from the event time.
    n_features : int
        Number of features computed from the table.
    is_edited : bool
        Whether rows of such a table are commonly entered or corrected later.
    """

    known_basis: str
    n_features: int
    is_edited: bool


@dataclass(frozen=True)
class CancellationCategories:
    """Tickets about cancellation, which are part of the decision and not a signal of it.

    Attributes
    ----------
    n_tickets : int
        Tickets in the deny-listed categories.
    without : pandas.DataFrame
        Features at `Evidence.day` computed without these tickets: one row per entity (the index),
        the columns of the families computed from tickets.
    lookalikes : mapping of str to int
        Categories whose name suggests cancellation but that are not on the list, and their tickets.
    crowding : tuple of str
        Categories whose tickets accumulate right before decisions, in words
        (`training.checks.ticket_crowding`).
    """

    n_tickets: int
    without: pd.DataFrame
    lookalikes: Mapping[str, int] = field(default_factory=dict)
    crowding: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Evidence from source tables and snapshots.

    Attributes
    ----------
    day : pandas.Timestamp
        A past as_of, UTC.
    stored, rebuilt : pandas.DataFrame
        All features at `day`, one row per entity (the index): from the snapshots, and recomputed
        from today's tables restricted to rows known by `day`.
    leaving : CancellationCategories or None
        None without a tickets table.
    sources : mapping of str to Visibility
        By source table.
    book : pandas.DataFrame
        Features of the scored accounts, one row each.
    copies : sequence of tuple of str
        Groups of accounts with the same history.
    missing : sequence of str
        Tables with many rows of unknown accounts, in words.
    clockless : mapping of str to str
        Tables with rows known before they happened, and their number.
    """

    day: pd.Timestamp
    stored: pd.DataFrame
    rebuilt: pd.DataFrame
    leaving: CancellationCategories | None
    sources: Mapping[str, Visibility]
    book: pd.DataFrame
    copies: Sequence[tuple[str, ...]] = ()
    missing: Sequence[str] = ()
    clockless: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckContext:
    """One training run.

    Attributes
    ----------
    frame : TrainingFrame
        Labelled rows.
    folds : Folds
        Training and test rows.
    config : TrainingConfig
        Settings of the model.
    predictions : pandas.DataFrame
        Out-of-time predictions, see `training.candidates.train.out_of_time`, with ``p_model``.
    evaluation : Evaluation
        Their measures.
    company : Company
        Configuration.
    evidence : Evidence or None
        None for a ready-made table.
    """

    frame: TrainingFrame
    folds: Folds
    config: TrainingConfig
    predictions: pd.DataFrame
    evaluation: Evaluation
    company: Company
    evidence: Evidence | None = None

    @cached_property
    def headline(self) -> pd.DataFrame:
        """Headline rows: each entity once per test period."""
        return self.predictions[self.predictions["is_headline"]].reset_index(drop=True)
