"""Proposed configuration of a company, with every value and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from features.sources.proposal.draft import Choice, TableDraft


@dataclass
class Proposal:
    """A proposed configuration.

    Attributes
    ----------
    name, title : str
        Name of the company, and for people.
    connection : str
        Name of the database connection of the inputs; empty for files.
    inputs : dict of str to str
        Input to its file or pattern, relative to the data folder; or to its table.
    drafts : list of TableDraft
        The mapped tables, accounts first.
    unused : dict of str to str
        File to the reason why it is not mapped.
    settings : dict of str to Choice
        ``now`` and ``reporting_currency``.
    targets : dict of str to dict
        Outcomes to predict.
    """

    name: str
    title: str
    connection: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    drafts: list[TableDraft] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Choice] = field(default_factory=dict)
    targets: dict[str, dict[str, str]] = field(default_factory=dict)

    def place_of(self, draft: TableDraft) -> str:
        """Return the key of a table's mapping, with its number where a table has several."""
        same = [item for item in self.drafts if item.table == draft.table]
        number = f".{same.index(draft)}" if len(same) > 1 else ""
        return f"tables.{draft.table}{number}"

    def choices(self) -> dict[str, Choice]:
        """Return every value of the proposal by its key in ``company.yaml``."""
        found = dict(self.settings)
        for draft in self.drafts:
            place = self.place_of(draft)
            found |= {f"{place}.columns.{name}": item for name, item in draft.columns.items()}
            for number, (choice, _, _) in enumerate(draft.links):
                found[f"{place}.account.{number}"] = choice
            found |= {f"{place}.billing.{name}": item for name, item in draft.billing.items()}
            for name in ("known_at", "leave_out", "timezone"):
                choice = getattr(draft, name)
                if choice is not None:
                    found[f"{place}.{name}"] = choice
        return found

    def questions(self) -> dict[str, Choice]:
        """Return the values that a person should decide."""
        return {key: item for key, item in self.choices().items() if item.sure == "low"}

    def guesses(self) -> dict[str, Choice]:
        """Return the values that count as unconfirmed."""
        return {key: item for key, item in self.choices().items() if item.sure != "high"}
