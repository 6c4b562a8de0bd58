"""Input of the functions that read outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from configs.runtime.errors import ConfigError
from configs.schema.company import Cohort, Target

UNDATED = {
    "decision_day": ibis.null("int64"),
    "effective_day": ibis.null("int64"),
    "reason": ibis.null("string"),
}
"""Columns of outcomes without a date of their own."""


@dataclass(frozen=True)
class LabelRequest:
    """Windows, tables with hindsight, target and cohort of one reading of outcomes."""

    windows: ir.Table
    tables: Mapping[str, ir.Table]
    name: str
    target: Target
    cohort: Cohort

    def table(self, name: str, *columns: str) -> ir.Table:
        """Return a table the target is observed in.

        Raises
        ------
        ConfigError
            The table or one of its columns is not mapped.
        """
        if name not in self.tables:
            others = sorted({"subscriptions", "outcomes", "labels"} & set(self.tables))
            raise ConfigError(
                f"target {self.name} is observed in {name}, which is not mapped",
                where=f"targets.{self.name}.observed_in",
                fix=f"map the table {name}, or observe the target in "
                + " or ".join([*others, "activity"]),
            )
        missing = [column for column in columns if column not in self.tables[name].columns]
        if missing:
            raise ConfigError(
                f"target {self.name} is observed in {name}, which has no {', '.join(missing)}",
                where=f"targets.{self.name}.observed_in",
                fix=f"map tables.{name}.columns.{missing[0]}",
            )
        return self.tables[name]
