"""Draft of a mapping: every value with the reason for it, before it is written as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from features.sources.proposal.file_profile import FileProfile

Sure = Literal["high", "medium", "low"]
Answers = Mapping[str, str]
"""Key in ``company.yaml`` → value that a person chose; empty text leaves the key out."""


@dataclass(frozen=True)
class Choice:
    """One value of the proposed configuration.

    Attributes
    ----------
    value : str
        As written in ``company.yaml``.
    why : str
        Evidence.
    sure : {"high", "medium", "low"}
        high: documented by the tool or verified on the data; medium: likely; low: ask a person.
    others : tuple of str
        Alternatives.
    """

    value: str
    why: str
    sure: Sure = "high"
    others: tuple[str, ...] = ()


@dataclass
class TableDraft:
    """Mapping of one file to one table.

    Attributes
    ----------
    file : FileProfile
        The file.
    table : str
        The canonical table.
    origin : str
        What recognised the file: a tool's export, or its column names.
    score : float
        Strength of the recognition, to compare candidates of the same file.
    columns : dict of str to Choice
        Canonical column to source column or SQL.
    links : list of (Choice, str, str)
        Values that identify the account: column, matching column of the accounts, and how.
    link_columns : list of (str, str)
        Columns that may identify the account, with how they are compared; the tool's own first.
    billing : dict of str to Choice
        Keys of `billing`; empty without.
    known_at, leave_out, timezone : Choice or None
        As in the mapping.
    overwritten : frozenset of str
        Source columns that change in place.
    is_also : bool
        The table is filled in addition to the file's own.
    notes : list of str
        Traps, for the person who confirms the mapping.
    """

    file: FileProfile
    table: str
    origin: str
    score: float
    columns: dict[str, Choice] = field(default_factory=dict)
    links: list[tuple[Choice, str, str]] = field(default_factory=list)
    link_columns: list[tuple[str, str]] = field(default_factory=list)
    billing: dict[str, Choice] = field(default_factory=dict)
    known_at: Choice | None = None
    leave_out: Choice | None = None
    timezone: Choice | None = None
    overwritten: frozenset[str] = frozenset()
    is_also: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def is_from_starter(self) -> bool:
        """Whether a tool's documented export was recognised."""
        return self.origin != BY_NAMES

    def happened_column(self, happened: str) -> str | None:
        """Return the source column of the event time, where it is a plain column."""
        choice = self.columns.get(happened)
        return choice.value if choice and choice.value in self.file.columns else None


BY_NAMES = "its column names"
"""Origin of a mapping without a starter."""
