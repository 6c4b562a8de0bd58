"""Hand-made health score of the company: plausible and partly wrong."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from features.simulator.mechanism.calendar import Bools, Floats, Ints, instants
from features.simulator.mechanism.context import SimulationContext
from features.simulator.mechanism.hazards import LEAVING
from features.simulator.mechanism.hidden_states import LEAD

WEIGHTS = {"usage": 0.25, "nps": 0.30, "tickets": 0.10, "tenure": 0.10, "pulse": 0.25}
"""Tenure carries no information, tickets come from engaged and unhappy accounts alike, and the
monthly usage trend is mostly noise."""

RED_BELOW, GREEN_FROM = 56.0, 67.0
BEFORE_MONTH_END = 4 * 3600
"""Seconds before the end of a month at which the score is recorded."""


def health_parts(
    context: SimulationContext, usage: Ints, tickets: Ints, nps: Floats
) -> dict[str, Floats]:
    """Return the parts of the score at the end of each month, 0 to 100, accounts × months.

    Parameters
    ----------
    usage, tickets : array, accounts × months
        Usage rows and tickets of each month.
    nps : array, accounts × months
        Mean NPS score of each month, NaN without answers.
    """
    rng = context.rng("health")
    months = np.arange(context.calendar.n_months)
    before = np.stack([usage[:, np.maximum(months - k, 0)] for k in (1, 2, 3)]).mean(axis=0)
    trend = np.log((usage + 3) / (before + 3))
    last = pd.DataFrame(nps).ffill(axis=1).fillna(7.5).to_numpy()
    felt = context.hidden_states.states[:, LEAD:] @ LEAVING
    tenure = (context.calendar.starts[1 : len(months) + 1] - context.traits.started[:, None]) / 365
    parts: dict[str, Floats] = {
        "usage": np.clip(60 + 45 * trend, 0, 100),
        "nps": 10 * last,
        "tickets": np.clip(90 - 15 * tickets, 0, 100),
        "tenure": np.clip(35 + 20 * tenure, 0, 100),
        "pulse": np.clip(70 - 5 * felt + context.noise(rng, 16), 0, 100),
    }
    return parts


def health_scores(parts: dict[str, Floats]) -> Floats:
    """Return the weighted score, 0 to 100, accounts × months."""
    score: Floats = sum(
        (WEIGHTS[name] * value for name, value in parts.items()),
        start=np.zeros(parts["usage"].shape),
    )
    return score.round(1)


def is_red(score: Floats) -> Bools:
    """Return where a score is in the worst band."""
    return score < RED_BELOW


def health_table(
    context: SimulationContext, score: Floats, parts: dict[str, Floats]
) -> pd.DataFrame:
    """Return the health_scores table: one row per account and month end."""
    account, month = np.nonzero(context.presence > 0)
    moment = context.calendar.starts[month + 1] * 86_400 - BEFORE_MONTH_END
    is_present = context.is_there(account, context.calendar.starts[month + 1] - 1)
    account, month, moment = account[is_present], month[is_present], moment[is_present]
    value = score[account, month]
    band = np.where(value < RED_BELOW, "red", np.where(value < GREEN_FROM, "yellow", "green"))
    return pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "scored_at": instants(moment),
            "score": value,
            "band": band.astype(object),
            "components": _as_json({name: part[account, month] for name, part in parts.items()}),
        }
    )


def _as_json(parts: dict[str, Floats]) -> list[str]:
    rows = zip(*(part.round(1).tolist() for part in parts.values()), strict=True)
    return [json.dumps(dict(zip(parts, row, strict=True))) for row in rows]
