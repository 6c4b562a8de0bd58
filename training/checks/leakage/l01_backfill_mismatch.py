"""BW-L01."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext, Evidence
from training.checks.helpers import name_list

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""How far a mean may move because its terms were added in another order."""


class BackfillMismatch(Check):
    """Finds features that read what nobody could know at their as_of.

    A past as_of is computed again from today's tables, cut to the rows and values known by then,
    and compared with the snapshots and with the rows trained on. What happened or arrived later
    must not move a single value.
    """

    code: ClassVar[str] = "BW-L01"
    title: ClassVar[str] = "a past day is rebuilt the same"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "look at what these features read: a row or value must count only from its known_at; "
        "then rebuild the snapshots"
    )

    def look(self, context: CheckContext) -> Finding:
        """Compare every feature of every entity at one past as_of."""
        evidence = context.evidence
        if evidence is None:
            return skipped("the rows were given as a table; there is nothing to rebuild them from")
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
    """Return per column how many entities of `before` have another value in `again`.

    An entity that is missing from `again` counts as moved wherever it had a value.
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
