"""BW-S04."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, passed, tip
from training.checks.context import CheckContext
from training.checks.helpers import name_list


class EmptyFeatures(Check):
    """Finds features that are always missing or constant, which have no information.

    Often a column is mapped incorrectly, its unit rounds to 0, or its source stopped.
    """

    code: ClassVar[str] = "BW-S04"
    title: ClassVar[str] = "every feature varies"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = "check the mapping of what they read, or list them in exclude_features"

    def run(self, context: CheckContext) -> Finding:
        """Count the distinct values of every feature."""
        features = context.frame.features
        values = {str(name): column.dropna().unique() for name, column in features.items()}
        absent = [f"{name} (always missing)" for name in values if len(values[name]) == 0]
        constant = [
            f"{name} (always {values[name][0]})"
            for name in values
            if len(values[name]) == 1 and features[name].notna().all()
        ]
        found = absent + constant
        if found:
            return tip(f"{len(found)} of {len(values)} features do not vary: {name_list(found)}")
        return passed(f"all {len(values)} features vary")
