"""Choice of the outcome reader by the table a target is observed in."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir

from configs.schema.company import Target
from features.labels.activity_outcomes import inactivity, spend_movement
from features.labels.recorded_outcomes import given_labels, recorded_outcomes
from features.labels.request import LabelRequest
from features.labels.subscription_outcomes import churn_in_terms, movement_in_terms

OutcomeReader = Callable[[LabelRequest], ir.Table]
"""Returns one row per window with an outcome: `KEY`, decision_day, effective_day, reason and
happened."""


def outcome_reader(target: Target) -> OutcomeReader:
    """Return the function that reads the outcomes of a target."""
    readers = {
        ("churn", "subscriptions"): churn_in_terms,
        ("contraction", "subscriptions"): movement_in_terms,
        ("expansion", "subscriptions"): movement_in_terms,
        ("churn", "activity"): inactivity,
        ("expansion", "activity"): spend_movement,
        ("contraction", "activity"): spend_movement,
    }
    if target.observed_in == "outcomes":
        return recorded_outcomes
    if target.observed_in == "labels":
        return given_labels
    return readers[target.outcome, target.observed_in]
