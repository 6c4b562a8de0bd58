"""Spend retention for companies without contracts: share of usual spend expected to stay active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from configs.schema.company import Company
from features.revenue.retention import quarter_name, quarters
from training.forecast.backtest import (
    backtest_summary,
    crps,
    is_covered,
    moment_of,
    past_shock,
    scored_forecasts,
)
from training.forecast.common_shock import CommonShock
from training.forecast.inputs import ForecastInputs
from training.forecast.periods import quantiles
from training.forecast.simulate import (
    ForecastStep,
    SimulatedChanges,
    draws_table,
    simulate_forecast,
)

TRAILING_DAYS = 364
PAST_DRAWS = 4_000

Plain = dict[str, Any]


def spend_forecast(
    company: Company,
    churn: str,
    predictions: pd.DataFrame,
    book: Sequence[Mapping[str, Any]],
    release: Mapping[str, Any],
    inputs: ForecastInputs,
    *,
    draws: int,
) -> Plain:
    """Return the share of usual spend of accounts that are expected to stay active.

    Returns
    -------
    dict
        As `training.forecast.company.company_forecast`, kind ``spend`` or ``none``.
    """
    target = company.targets[churn]
    rows = [row for row in book if churn in (row.get("scores") or {})]
    worth = np.array([float(row.get("arr") or 0.0) for row in rows])
    if not worth.sum() > 0:
        return {
            "kind": "none",
            "words": [
                f"Nothing is forecast: {inputs.why_not or 'churn is not observed in contracts'}, "
                "and there is no spend by account."
            ],
        }
    p = np.array([float(row["scores"][churn]["probability"]) for row in rows])
    is_base_rate = release["bundles"].get(churn, {}).get("verdict") == "no_signal"
    scores = scored_forecasts(
        predictions, "p_constant" if is_base_rate else "p_model", until_renewal=False
    )
    shock = past_shock(scores, inputs.days, inputs.today)
    share = kept_share(p, worth, shock, draws=draws, seed=company.training.seed)
    usual = float(worth.sum()) * target.horizon_days / TRAILING_DAYS
    return {
        "kind": "spend",
        "currency": company.reporting_currency,
        "words": _words(inputs, target.horizon_days),
        "horizon_days": target.horizon_days,
        "accounts": len(rows),
        "usual_spend": usual,
        "share": quantiles(share),
        "spend": quantiles(share * usual),
        "expected_silent": float(p.sum()),
        "expected_silent_spend": float((p * worth).sum()) * target.horizon_days / TRAILING_DAYS,
        "shock": {"churn": shock.as_dict()},
        "draws": draws,
        "seed": company.training.seed,
        "backtest": _backtest(scores, predictions, inputs, company.training.seed),
    }


def _words(inputs: ForecastInputs, horizon_days: int) -> list[str]:
    why = inputs.why_not or "churn means inactivity here, not the end of a contract"
    return [
        f"GRR and NRR are not forecast: {why}, so there is no ARR to retain.",
        f"Instead, the forecast is the share of usual spend that belongs to accounts that stay "
        f"active. Usual spend of {horizon_days} days is the account's average over the last "
        f"{TRAILING_DAYS} days. Future spend of active accounts is not forecast.",
    ]


def kept_share(
    p: np.ndarray, worth: np.ndarray, shock: CommonShock, *, draws: int, seed: int
) -> np.ndarray:
    """Return draws of the share of spend of retained accounts, with a common shock."""
    n = len(p)
    step = ForecastStep(
        p, np.zeros(n), np.ones(n), np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    )
    flat = draws_table(np.zeros(0), np.zeros(0))
    (drawn,) = simulate_forecast(
        worth,
        worth,
        [step],
        [SimulatedChanges(flat, flat[None, :])],
        (shock, shock),
        np.ones((n, 1)),
        draws=draws,
        seed=seed,
    )
    share: np.ndarray = drawn.kept[:, 0] / drawn.base[:, 0]
    return share


def _backtest(scores: Any, predictions: pd.DataFrame, inputs: ForecastInputs, seed: int) -> Plain:
    """Return the forecast share at every past quarter start, and the outcome."""
    worth = predictions["arr"].fillna(0.0).clip(lower=0.0).to_numpy(dtype=np.float64)
    rows = scores.rows.assign(worth=worth)
    found, left_out = [], []
    known: dict[int, float] = {}
    for start, _ in quarters(inputs.days[0], inputs.today):
        moment = moment_of(inputs.days, start)
        here = rows[(rows["day"] == moment) & (rows["worth"] > 0)]
        if moment is None or here.empty:
            words = "too few outcomes were known at its start, or its outcomes are incomplete"
            left_out.append({"quarter": quarter_name(start), "words": words})
            continue
        shock = past_shock(scores, inputs.days, moment)
        value = here["worth"].to_numpy()
        share = kept_share(here["p"].to_numpy(), value, shock, draws=PAST_DRAWS, seed=seed)
        actual = float(value @ (1.0 - here["label"].to_numpy()) / value.sum())
        known[start] = actual
        before = next((known[s] for s in known if 360 <= start - s <= 370), None)
        found.append(
            {
                "quarter": quarter_name(start),
                "share": {
                    **quantiles(share),
                    "actual": actual,
                    "error": float(share.mean()) - actual,
                    "is_covered": is_covered(share, actual),
                    "crps": crps(share, actual),
                    "last_year": before,
                    "crps_last_year": None if before is None else abs(before - actual),
                },
                "commit": None,
            }
        )
    return {"quarters": found, "left_out": left_out, "summary": backtest_summary(found, ("share",))}
