"""Measured value of each optional table, on the simulated company.

``table_values.json`` is written by ``python -m tests.benchmarks --only tables``: the company is
trained with and without each table, on the same rows and folds. The numbers hold for the simulated
company; those of another company can differ in size and sign.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PATH = Path(__file__).with_name("table_values.json")

CAVEAT = "measured on the simulated company; another company can differ"


@dataclass(frozen=True)
class Gain:
    """Value of a measure with a table minus that without it, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """The gain as text.

        >>> Gain(0.0461, 0.0274, 0.0662).words
        '0.05 (0.03 to 0.07)'
        """
        return f"{_shown(self.value)} ({_shown(self.low)} to {_shown(self.high)})"


@dataclass(frozen=True)
class TableValue:
    """Value of a table for one target.

    Attributes
    ----------
    target : str
        ``churn`` or ``expansion``.
    auc : Gain
        AUC within test periods, 0 to 1.
    arr_capture : Gain
        Share of the ARR of the outcomes that the team's capacity covers, 0 to 1.
    features : int
        Number of features that need the table.
    """

    target: str
    auc: Gain
    arr_capture: Gain
    features: int


@lru_cache(maxsize=1)
def table_values() -> Mapping[str, tuple[TableValue, ...]]:
    """Return the measured values by table; tables that were not measured are absent."""
    plain = json.loads(PATH.read_text(encoding="utf-8"))
    return {
        table: tuple(
            TableValue(
                target,
                Gain(**item["auc"]),
                Gain(**item["arr_capture"]),
                int(item["features"]["lost"]),
            )
            for target, item in targets.items()
        )
        for table, targets in plain["tables"].items()
    }


def value_words(table: str) -> str:
    """Return the measured value of a table as text; empty where it adds no feature.

    >>> value_words("labels")
    ''
    """
    found = [item for item in table_values().get(table, ()) if item.features]
    if not found:
        return ""
    parts = " and ".join(f"{item.auc.words} AUC for {item.target}" for item in found)
    return f"on the simulated company it added {parts}"


def _shown(value: float) -> str:
    """Return a number with two decimals, without a negative zero."""
    return f"{round(value, 2) + 0.0:.2f}"
