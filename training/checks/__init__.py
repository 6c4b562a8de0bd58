"""Methodological checks with codes: one file each, found by name, run on every training."""

from training.checks.base import Check, CheckResult
from training.checks.context import Context, Evidence, Leaving, Visibility
from training.checks.registry import catalogue, run_checks

__all__ = [
    "Check",
    "CheckResult",
    "Context",
    "Evidence",
    "Leaving",
    "Visibility",
    "catalogue",
    "run_checks",
]
