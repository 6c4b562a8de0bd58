"""BW-L01."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext, Evidence
from training.checks.helpers import name_list

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Relative tolerance for sums in a different order."""


class BackfillMismatch(Check):
    """Finds features with values that were not known at their as_of.

    A past as_of is recomputed from today's tables, restricted to rows and values known by then, and
    compared with the snapshots and the training rows. Later rows must not change any value.
    """

    code: ClassVar[str] = "BW-L01"
    title = "a past as_of is recomputed identically"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "check the source columns of these features: a row or value must count only from its "
        "known_at; then rebuild the snapshots"
    )

    def run(self, context: CheckContext) -> Finding:
        """Compare every feature of every entity at one past as_of."""
        evidence = context.evidence
        if evidence is None:
            return skipped("ready-made table: no source tables to recompute features from")
        names = [item.name for item in context.frame.info if item.name in evidence.rebuilt]
        again = evidence.rebuilt[names]
        n_stored = moved(evidence.stored[names], again)
        n_trained = moved(_trained_on(context, evidence)[names], again)
        worst = {name: max(n_stored[name], n_trained[name]) for name in names}
        wrong = sorted((name for name in names if worst[name]), key=lambda name: -worst[name])
        day = f"{evidence.day:%Y-%m-%d}"
        if wrong:
            shown = name_list([f"{name} ({worst[name]} accounts)" for name in wrong])
            return issue_finding(
                f"rebuilt from what was known by {day}, {len(wrong)} of {len(names)} features "
                f"differ: {shown}"
            )
        return passed(
            f"{len(names)} features of {len(again):,} accounts on {day} are the same, rebuilt from "
            "what was known then"
        )


def _trained_on(context: CheckContext, evidence: Evidence) -> pd.DataFrame:
    here = (context.frame.rows["as_of"] == evidence.day).to_numpy()
    values = context.frame.features[here]
    return values.set_axis(context.frame.rows.loc[here, "entity_id"], axis=0)


def moved(before: pd.DataFrame, again: pd.DataFrame) -> dict[str, int]:
    """Return per column the number of entities with different values in `before` and `again`.

    An entity missing from `again` counts as different wherever it had a value.
    """
    other = again.reindex(index=before.index, columns=before.columns)
    same = np.isclose(
        before.to_numpy(dtype=np.float64),
        other.to_numpy(dtype=np.float64),
        rtol=RELATIVE,
        atol=ABSOLUTE,
        equal_nan=True,
    )
    counts = (~same).sum(axis=0)
    return {str(name): int(n) for name, n in zip(before.columns, counts, strict=True)}
