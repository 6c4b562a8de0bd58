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
    """Finds cancellation tickets among the signals: they are part of the decision.

    Features of a past as_of are recomputed without tickets of the deny-listed categories
    (cancellation, off-boarding, data export, termination); a feature that changes counted them. Any
    other category, or none, is an issue too if its tickets accumulate right before decisions:
    accounts that leave open it in the last 14 days at several times their own rate of the half year
    before (lower 99.9 % limit above three), for at least one account in twenty. Categories whose
    name suggests cancellation but that are not on the list are a tip. No feature reads the text of
    a ticket.
    """

    code: ClassVar[str] = "BW-L08"
    title = "cancellation tickets are not counted"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "map these categories to one of the deny-listed words (cancellation, offboarding, "
        "data_export, termination), and let features count only `support.is_counted`"
    )

    def run(self, context: CheckContext) -> Finding:
        """Compare the features with those computed without cancellation tickets."""
        if context.evidence is None:
            return skipped("ready-made table: no tickets")
        leaving = context.evidence.leaving
        if leaving is None:
            return not_applicable("no tickets with categories")
        used = {item.name for item in context.frame.info}
        names = [str(name) for name in leaving.without if name in used]
        n_moved = moved(context.evidence.stored[names], leaving.without[names])
        counting = [f"{name} ({n} accounts)" for name, n in n_moved.items() if n]
        if counting:
            return issue_finding(
                f"{leaving.n_tickets:,} cancellation tickets are counted by {name_list(counting)}"
            )
        if leaving.crowding:
            crowding = name_list(leaving.crowding)
            return issue_finding(f"tickets that are part of the decision are counted: {crowding}")
        if leaving.lookalikes:
            shown = name_list([f"{name} ({n:,})" for name, n in leaving.lookalikes.items()])
            return tip(f"categories whose name suggests cancellation are counted: {shown}")
        return passed(f"{leaving.n_tickets:,} cancellation tickets, counted by no feature")
