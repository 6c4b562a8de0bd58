"""BW-L08."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import (
    Check,
    Finding,
    Severity,
    issue_finding,
    not_applicable,
    passed,
    skipped,
    tip,
)
from training.checks.context import CheckContext
from training.checks.helpers import name_list
from training.checks.leakage.l01_backfill_mismatch import moved


class CancellationTickets(Check):
    """Finds tickets about leaving among the signals: they are the decision, not a sign of it.

    Features of a past as_of are built once more as if no ticket of the deny-listed categories
    (cancellation, off-boarding, data export, termination) existed; any feature that moves counted
    them. A category of any name, or none, is an issue too when it crowds right before decisions:
    accounts that leave open it in the last fortnight at several times their own rate of the half
    year before (lower 99.9 % limit above three), one account in twenty or more. Categories that
    sound like leaving and are not on the list are a tip. No feature reads the text of a ticket.
    """

    code: ClassVar[str] = "BW-L08"
    title: ClassVar[str] = "tickets about leaving are not counted"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "map these categories to one of the deny-listed words (cancellation, offboarding, "
        "data_export, termination), and let features count only `support.is_counted`"
    )

    def look(self, context: CheckContext) -> Finding:
        """Compare the features with those built without tickets about leaving."""
        if context.evidence is None:
            return skipped("the rows were given as a table; their tickets are not known")
        leaving = context.evidence.leaving
        if leaving is None:
            return not_applicable("there are no categorised tickets")
        used = {item.name for item in context.frame.info}
        names = [str(name) for name in leaving.without if name in used]
        n_moved = moved(context.evidence.stored[names], leaving.without[names])
        counting = [f"{name} ({n} accounts)" for name, n in n_moved.items() if n]
        if counting:
            return issue_finding(
                f"{leaving.n_tickets:,} tickets about leaving are counted by {name_list(counting)}"
            )
        if leaving.crowding:
            crowding = name_list(leaving.crowding)
            return issue_finding(f"tickets that come with the decision are counted: {crowding}")
        if leaving.lookalikes:
            shown = name_list([f"{name} ({n:,})" for name, n in leaving.lookalikes.items()])
            return tip(f"categories that sound like leaving are counted: {shown}")
        return passed(f"{leaving.n_tickets:,} tickets about leaving, counted by no feature")
