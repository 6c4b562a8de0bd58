"""Methodological checks, one per file, run on every training."""

from training.checks.base import Check
from training.checks.context import CancellationCategories, CheckContext, Evidence, Visibility
from training.checks.registry import check_catalogue, run_checks
from training.model.manifest_parts import CheckResult

__all__ = [
    "Check",
    "CheckResult",
    "CheckContext",
    "Evidence",
    "CancellationCategories",
    "Visibility",
    "check_catalogue",
    "run_checks",
]
