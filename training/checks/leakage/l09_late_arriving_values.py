"""BW-L09."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, passed, skipped, tip
from training.checks.context import CheckContext
from training.checks.helpers import name_list


class LateArrivingValues(Check):
    """Finds source tables that may show the past as it is known today.

    Rows of a table without ``known_at`` count from the time of the event. If rows are entered or
    corrected later, past features contain later knowledge, and the out-of-time measures are
    overestimated by an amount that cannot be measured on these data.
    """

    code: ClassVar[str] = "BW-L09"
    title = "source tables record when rows became known"
    severity: ClassVar[Severity] = "advisory"
    to_do = (
        "map known_at in company.yaml (for example the row's load time), or set known_delay_days"
    )

    def run(self, context: CheckContext) -> Finding:
        """List the tables used by features that do not record when rows became known."""
        if context.evidence is None:
            return skipped("ready-made table: no source tables")
        read = {name: v for name, v in context.evidence.sources.items() if v.n_features}
        silent = {name: v for name, v in read.items() if v.known_basis == "default"}
        if not silent:
            return passed(f"known_at or a delay is set for all {len(read)} tables read")
        ordered = sorted(silent, key=lambda name: (not silent[name].is_edited, name))
        shown = [
            f"{name} ({silent[name].n_features} features"
            + (", commonly corrected later)" if silent[name].is_edited else ")")
            for name in ordered
        ]
        return tip(
            f"{len(silent)} of {len(read)} tables do not record when rows became known: "
            + name_list(shown, 8)
        )
