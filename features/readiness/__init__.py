"""Readiness of today's data: whether it may be scored, with the reason and what to do."""

from features.readiness.decide import decide
from features.readiness.measure import TableState, measure_tables
from features.readiness.result import Baseline, Finding, Level, Readiness, RefreshReadiness

__all__ = [
    "Baseline",
    "Finding",
    "Level",
    "Readiness",
    "TableState",
    "RefreshReadiness",
    "decide",
    "measure_tables",
]
