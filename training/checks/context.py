"""What the checks look at: one training run, and evidence from the sources behind it."""

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
    """How it is known when the rows of a source table became visible.

    Attributes
    ----------
    known_basis : str
        ``column``: the source says it; ``delay``, ``default``: taken from when it happened.
    n_features : int
        Features that read the table.
    is_edited : bool
        Rows of such a table are commonly entered or corrected after the fact.
    """

    known_basis: str
    n_features: int
    is_edited: bool


@dataclass(frozen=True)
class CancellationCategories:
    """Tickets about leaving: the decision itself, not a signal of it.

    Attributes
    ----------
    n_tickets : int
        Tickets in the deny-listed categories.
    without : pandas.DataFrame
        Features at `Evidence.day`, built as if these tickets did not exist: one row per entity
        (the index), the columns of the families that read tickets.
    lookalikes : mapping of str to int
        Categories that sound like leaving and are not on the list, and their tickets.
    crowding : tuple of str
        Categories whose tickets crowd right before decisions, in words
        (`training.checks.ticket_crowding`).
    """

    n_tickets: int
    without: pd.DataFrame
    lookalikes: Mapping[str, int] = field(default_factory=dict)
    crowding: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What only the sources and snapshots can tell.

    Attributes
    ----------
    day : pandas.Timestamp
        A past as_of, UTC.
    stored, rebuilt : pandas.DataFrame
        All features at `day`, one row per entity (the index): as the snapshots hold them, and as
        computed again from today's tables cut to what was known by `day`.
    leaving : Leaving or None
        None without a tickets table.
    sources : mapping of str to Visibility
        By source table.
    book : pandas.DataFrame
        Features of the scored accounts of the book, one row each.
    copies : sequence of tuple of str
        Groups of accounts with the same history.
    missing : sequence of str
        Tables with many rows of accounts that are not there, in words.
    clockless : mapping of str to str
        Tables whose rows are known before they happened, and how many.
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
        What was trained and tested on.
    config : Recipe
        How the model was fitted.
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
        """The out-of-time rows that count: each entity once per test period."""
        return self.predictions[self.predictions["is_headline"]].reset_index(drop=True)
