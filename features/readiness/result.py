"""Result of the readiness rules: findings, and a level per target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from features.readiness.measure import TableState

Level = Literal["ready", "degraded", "not_ready"]
LEVELS: tuple[Level, ...] = ("ready", "degraded", "not_ready")

LAGS_KEPT = 14
"""Refreshes of which the delay of every table is kept."""


@dataclass(frozen=True)
class Finding:
    """One reason against scoring today's data.

    Attributes
    ----------
    code : str
        Rule: late, few_rows, column_gone, missing_values, parse_failures, table_gone,
        accounts_lost or currency_without_rate.
    table : str
        The table.
    level : {"degraded", "not_ready"}
        Effect on the targets.
    reason : str
        The finding with its numbers.
    to_do : str
        Remedy.
    targets : tuple of str
        Targets it applies to.
    """

    code: str
    table: str
    level: Level
    reason: str
    to_do: str
    targets: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return {**asdict(self), "targets": list(self.targets)}


@dataclass(frozen=True)
class RefreshReadiness:
    """Readiness of one target.

    Attributes
    ----------
    target : str
        Name of the target.
    level : {"ready", "degraded", "not_ready"}
        Level of its worst finding.
    findings : tuple of Finding
        Worst first.
    """

    target: str
    level: Level
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Readiness:
    """Readiness of today's data.

    Attributes
    ----------
    targets : tuple of RefreshReadiness
        One per target.
    is_pinned : bool
        The clock of the company is pinned: its data has ended and is always ready.
    """

    targets: tuple[RefreshReadiness, ...]
    is_pinned: bool = False

    @property
    def level(self) -> Level:
        """The worst level of all targets: a book holds the scores of all of them."""
        return max((item.level for item in self.targets), key=LEVELS.index, default="ready")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding once, worst first."""
        return tuple(dict.fromkeys(item for target in self.targets for item in target.findings))

    @property
    def reasons(self) -> str:
        """The reasons of the worst level in one line; empty when ready."""
        worst = [item.reason for item in self.findings if item.level == self.level]
        return "; ".join(worst)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "level": self.level,
            "is_pinned": self.is_pinned,
            "targets": {
                item.target: {
                    "level": item.level,
                    "findings": [finding.as_dict() for finding in item.findings],
                }
                for item in self.targets
            },
        }


@dataclass(frozen=True)
class Baseline:
    """State of the tables at the last refresh that scored.

    Attributes
    ----------
    tables : dict of str to TableState
        By table.
    lags : dict of str to list of int
        Table → days between its last row and each of the last refreshes.
    unconverted : dict of str to float
        Table → share of amounts in a currency without a rate.
    """

    tables: dict[str, TableState] = field(default_factory=dict)
    lags: dict[str, list[int]] = field(default_factory=dict)
    unconverted: dict[str, float] = field(default_factory=dict)

    def usual_lag(self, table: str) -> int:
        """Return the delay of a table: fewest days between its last row and a refresh.

        0 if unknown. The gaps between its own days with rows are not part of it.
        """
        return min(self.lags.get(table) or [0])

    def after(self, tables: Mapping[str, TableState], unconverted: Mapping[str, float]) -> Baseline:
        """Return the baseline after a refresh that scored."""
        lags = {
            name: [*self.lags.get(name, ()), state.silent_days][-LAGS_KEPT:]
            for name, state in tables.items()
            if state.silent_days is not None
        }
        return Baseline(dict(tables), lags, dict(unconverted))

    def as_dict(self) -> dict[str, Any]:
        """Return the baseline as plain JSON values."""
        return {
            "tables": {name: state.as_dict() for name, state in self.tables.items()},
            "lags": self.lags,
            "unconverted": self.unconverted,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Baseline:
        """Return the baseline from `as_dict`."""
        tables = {name: TableState.from_dict(item) for name, item in stored["tables"].items()}
        return cls(tables, dict(stored["lags"]), dict(stored["unconverted"]))
