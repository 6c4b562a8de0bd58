"""BW-L09."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, passed, skipped, tip
from training.checks.context import CheckContext
from training.checks.helpers import name_list


class LateArrivingValues(Check):
    """Finds source tables that may show the past as it is known today.

    A table without ``known_at`` is read as if each row had been known when it happened. Where rows
    are entered or corrected later, features of the past then know more than anybody did, and the
    out-of-time measures are too good by an amount that no test on this data can show.
    """

    code: ClassVar[str] = "BW-L09"
    title: ClassVar[str] = "it is recorded when rows became visible"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = (
        "map known_at in company.yaml (the load time of the row does), or set known_delay_days"
    )

    def look(self, context: CheckContext) -> Finding:
        """List the tables that features read without knowing when their rows were known."""
        if context.evidence is None:
            return skipped("the rows were given as a table; their sources are not known")
        read = {name: v for name, v in context.evidence.sources.items() if v.n_features}
        silent = {name: v for name, v in read.items() if v.known_basis == "default"}
        if not silent:
            return passed(f"known_at or a delay is given for all {len(read)} tables read")
        ordered = sorted(silent, key=lambda name: (not silent[name].is_edited, name))
        shown = [
            f"{name} ({silent[name].n_features} features"
            + (", commonly corrected later)" if silent[name].is_edited else ")")
            for name in ordered
        ]
        return tip(
            f"{len(silent)} of {len(read)} tables do not say when rows became visible: "
            + name_list(shown, 8)
        )
