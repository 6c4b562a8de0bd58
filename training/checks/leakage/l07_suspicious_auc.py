"""BW-L07."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, not_applicable, passed
from training.checks.context import CheckContext
from training.evaluation.metrics import AUC_WITHIN
from training.evaluation.sampling import MODEL


class SuspiciousAuc(Check):
    """Finds a model with an implausibly high AUC.

    Models of business customers typically reach an AUC of 0.65 to 0.80 at 60 to 90 days. Above
    ``gates.max_auc`` (0.95 by default) out of time, a feature probably contains the outcome.
    """

    code: ClassVar[str] = "BW-L07"
    title = "the AUC is plausible"
    severity: ClassVar[Severity] = "blocking"
    to_do = "check the strongest features (BW-L02) and their source columns"

    def run(self, context: CheckContext) -> Finding:
        """Compare the AUC within test periods with the company's limit."""
        value = context.evaluation.models[MODEL]["auc"]["value"]
        most = context.company.gates.max_auc
        if value is None:
            return not_applicable(f"{AUC_WITHIN} cannot be measured")
        words = f"{AUC_WITHIN} {value:.3f}, at most {most} is believed"
        return issue_finding(words) if value > most else passed(words)
