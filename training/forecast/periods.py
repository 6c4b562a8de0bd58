"""Forecast of the coming periods: bands of GRR and NRR, renewals due, concentration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.days import index_day
from features.revenue.retention import quarter_name, quarter_of, retained, retention
from training.forecast.common_shock import CommonShock
from training.forecast.content_types import (
    Bands,
    Concentration,
    DueSums,
    GroupBands,
    LargeAccount,
    PeriodContent,
    PeriodsContent,
    Quantiles,
    RenewalsDue,
    ToDate,
)
from training.forecast.renewal_book import (
    ForecastRequest,
    RenewalBook,
    due_in,
    groups_of,
    known_share,
    left_within,
    step_of,
)
from training.forecast.simulate import SimulatedDraws, simulate_forecast
from training.forecast.size_distributions import SizeDistributions

REACH = 0.9
"""Share of the days to a period's end that the trained horizon must cover. The remaining days
continue at the same daily rate."""

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
DUE_QUARTERS = 4
TOP = 10


@dataclass(frozen=True)
class ForecastPeriod:
    """One forecast period.

    Attributes
    ----------
    name : str
        ``2026 Q3``, or ``next 91 days``.
    since, start, end : int
        Day indices: start of its ARR count, first open day, and end.
    """

    name: str
    since: int
    start: int
    end: int


@dataclass(frozen=True)
class ForecastAssumptions:
    """Assumptions of a forecast other than the scores.

    Attributes
    ----------
    request : ForecastRequest
        Definition of the scores.
    sizes : SizeDistributions
        Distributions of ARR changes.
    shocks : (CommonShock, CommonShock)
        Common shocks of leaving and of growing.
    draws, seed : int
        Number of simulation draws, and seed.
    """

    request: ForecastRequest
    sizes: SizeDistributions
    shocks: tuple[CommonShock, CommonShock]
    draws: int
    seed: int


def periods_ahead(at: int, horizon_days: int) -> list[list[ForecastPeriod]]:
    """Return the chains of forecast periods; each period starts at the end of the one before.

    The current and the next quarter, as far as the horizon reaches. If it does not reach the end
    of the next quarter, the horizon itself is a separate period.

    >>> from datetime import date
    >>> from features.snapshots.grid import day_index
    >>> names = lambda *day: [[p.name for p in c] for c in periods_ahead(day_index(date(*day)), 91)]
    >>> names(2026, 6, 29), names(2026, 7, 1), names(2026, 5, 15)
    ([['2026 Q2', '2026 Q3']], [['2026 Q3']], [['2026 Q2'], ['next 91 days']])
    """
    first, second = quarter_of(at)
    third = quarter_of(second)[1]
    chain = [ForecastPeriod(quarter_name(first), first, at, second)]
    chain += [ForecastPeriod(quarter_name(second), second, second, third)]
    reached = [period for period in chain if REACH * (period.end - at) <= horizon_days]
    rolling = [ForecastPeriod(f"next {horizon_days} days", at, at, at + horizon_days)]
    is_whole = len(reached) == 2 or (len(reached) == 1 and at == first)
    return [part for part in (reached, [] if is_whole else rolling) if part]


def draw_chain(
    book: RenewalBook, chain: Sequence[ForecastPeriod], assumptions: ForecastAssumptions
) -> tuple[list[tuple[str, str]], list[SimulatedDraws]]:
    """Return the groups and the draws of each period of a chain."""
    names, groups = groups_of(book.accounts)
    steps = [step_of(book, assumptions.request, period.start, period.end) for period in chain]
    changes = [assumptions.sizes.changes(period.end - period.start) for period in chain]
    base = "base" if chain[0].since == book.since else "arr"
    drawn = simulate_forecast(
        book.accounts["arr"].to_numpy(dtype=np.float64),
        book.accounts[base].to_numpy(dtype=np.float64),
        steps,
        changes,
        assumptions.shocks,
        groups,
        draws=assumptions.draws,
        seed=assumptions.seed,
    )
    return names, drawn


def forecast_periods(
    book: RenewalBook,
    assumptions: ForecastAssumptions,
    cuts: Mapping[str, float],
    trained_days: float,
) -> PeriodsContent:
    """Return the forecast content of a renewal book.

    Parameters
    ----------
    book : RenewalBook
        The renewal book.
    assumptions : ForecastAssumptions
        Assumptions.
    cuts : mapping
        Where the bands of the churn score start: ``elevated`` at least.
    trained_days : float
        Longest time to a renewal that the model was tested on.
    """
    periods = []
    for chain in periods_ahead(book.at, assumptions.request.horizon_days):
        names, drawn = draw_chain(book, chain, assumptions)
        periods += [
            period_content(book, period, names, draws)
            for period, draws in zip(chain, drawn, strict=True)
        ]
    reach = max((period["to_day"] for period in periods), default=book.at)
    return {
        "as_of": str(index_day(book.at)),
        "accounts": int((book.accounts["arr"] > 0).sum()),
        "arr": float(book.accounts["arr"].sum()),
        "unscored": int((~book.accounts["has_score"] & (book.accounts["arr"] > 0)).sum()),
        "periods": periods,
        "renewals": renewals_due(book, cuts, trained_days),
        "concentration": concentration(book, assumptions.request, reach),
    }


def period_content(
    book: RenewalBook,
    period: ForecastPeriod,
    names: Sequence[tuple[str, str]],
    drawn: SimulatedDraws,
) -> PeriodContent:
    """Return one period: bands of GRR, NRR and ARR lost, in total and per group."""
    groups: list[GroupBands] = [
        {"kind": kind, "name": name, **bands(drawn, column)}
        for column, (kind, name) in enumerate(names)
        if column
    ]
    total = bands(drawn, 0)
    return {
        "name": period.name,
        "from": str(index_day(period.since)),
        "open_from": str(index_day(period.start)),
        "to": str(index_day(period.end)),
        "to_day": period.end,
        "base": total["base"],
        "grr": total["grr"],
        "nrr": total["nrr"],
        "lost": total["lost"],
        "to_date": _to_date(book, period),
        "known_lost": _known_lost(book, period),
        "due_arr": float(book.accounts["arr"][due_in(book, period.start, period.end)].sum()),
        "groups": groups,
    }


def bands(drawn: SimulatedDraws, column: int) -> Bands:
    """Return P10, P50, P90 and mean of GRR, NRR and ARR lost of one group; None without ARR."""
    base, kept, end = drawn.base[:, column], drawn.kept[:, column], drawn.end[:, column]
    has = base > 0
    grr, nrr = (np.divide(part, base, out=np.ones(len(base)), where=has) for part in (kept, end))
    return {
        "base": float(base.mean()),
        "grr": quantiles(np.minimum(grr, 1.0)) if has.any() else None,
        "nrr": quantiles(nrr) if has.any() else None,
        "lost": quantiles(base - kept),
    }


def quantiles(values: np.ndarray) -> Quantiles:
    """Return P10, P50, P90 and the mean of draws."""
    p10, p50, p90 = np.quantile(values, list(QUANTILES.values())).tolist()
    return {"p10": p10, "p50": p50, "p90": p90, "mean": float(values.mean())}


def _to_date(book: RenewalBook, period: ForecastPeriod) -> ToDate | None:
    """Return GRR and NRR of the period to date; None before it starts."""
    if not period.since < book.at or period.since != book.since:
        return None
    so_far = retention(retained(book.steps, period.since, book.at))
    return {
        "grr": so_far["grr"],
        "nrr": so_far["nrr"],
        "lost_accounts": int(so_far["lost_accounts"] or 0),
    }


def _known_lost(book: RenewalBook, period: ForecastPeriod) -> float:
    """Return the ARR under notice that ends in the period."""
    share = known_share(book, period.start, period.end)
    earlier = known_share(book, book.at, period.start) if period.start > book.at else 1.0
    return float((book.accounts["arr"].to_numpy() * earlier * (1.0 - share)).sum())


def renewals_due(
    book: RenewalBook, cuts: Mapping[str, float], trained_days: float
) -> list[RenewalsDue]:
    """Return the renewals of this quarter and the next three.

    Returns
    -------
    list of dict
        quarter, accounts, arr; late_accounts and late_arr (of them, renewals that are overdue);
        signed_arr and known_lost_arr (settled); open_arr; and of open renewals:
        at_risk_accounts and at_risk_arr (all ARR of accounts in the elevated and high bands),
        expected_lost (probability times ARR over all), and with a CSM commit: commit_arr,
        commit_lost, model_lost (both on the same accounts). expected_lost is None where the
        renewal is further ahead than the model was tested.
    """
    table = book.accounts
    found: list[RenewalsDue] = []
    start = book.at
    for _ in range(DUE_QUARTERS):
        end = quarter_of(start)[1]
        known = table["arr"].to_numpy() * (1.0 - known_share(book, book.at, end + 1))
        due = table.assign(known_lost=known)[due_in(book, start, end)]
        is_tested = bool((due["renews_day"].fillna(book.at) - book.at <= trained_days).all())
        late = due[due["is_pending"]]
        sums = due_content(due, cuts)
        if not is_tested:
            sums["expected_lost"] = None
        found.append(
            {
                "quarter": quarter_name(start),
                **sums,
                "late_accounts": len(late),
                "late_arr": float(late["arr"].sum()),
                "is_tested": is_tested,
            }
        )
        start = end
    return found


def due_content(due: pd.DataFrame, cuts: Mapping[str, float]) -> DueSums:
    """Return the sums over some renewals."""
    is_known = due["known_lost"] > 0
    is_open = ~is_known & ~due["is_signed"]
    rest = due[is_open]
    raised = rest[rest["p_lost"] >= cuts.get("elevated", 1.0)]
    committed = rest[rest["commit"].notna()]
    return {
        "accounts": len(due),
        "arr": float(due["arr"].sum()),
        "signed_arr": float(due["arr"][due["is_signed"] & ~is_known].sum()),
        "known_lost_arr": float(due["known_lost"].sum()),
        "open_accounts": len(rest),
        "open_arr": float(rest["arr"].sum()),
        "at_risk_accounts": len(raised),
        "at_risk_arr": float(raised["arr"].sum()),
        "expected_lost": float((rest["arr"] * rest["p_lost"]).sum()),
        "commit_accounts": len(committed),
        "commit_arr": float(committed["arr"].sum()),
        "commit_lost": float((committed["arr"] * (1.0 - committed["commit"])).sum()),
        "model_lost": float((committed["arr"] * committed["p_lost"]).sum()),
    }


def concentration(book: RenewalBook, request: ForecastRequest, reach: int) -> Concentration:
    """Return the ten largest accounts and their share of ARR.

    Returns
    -------
    dict
        share (of ARR, the ten together), effective_accounts (1 over the sum of squared shares:
        number of equal accounts with the same concentration), top: name, account_id, arr, share,
        chance to leave within the forecast period (None when under notice), expected_lost.
    """
    table = book.accounts.sort_values(["arr", "entity_id"], ascending=[False, True])
    total = float(table["arr"].sum())
    shares = table["arr"] / total if total > 0 else table["arr"] * 0.0
    top = table.head(TOP).assign(share=shares)
    return {
        "share": float(top["share"].sum()),
        "effective_accounts": 1.0 / float((shares**2).sum()) if total > 0 else 0.0,
        "top": [_one_of_top(row, book, request, reach) for row in top.to_dict("records")],
    }


def _one_of_top(
    row: Mapping[Any, Any], book: RenewalBook, request: ForecastRequest, reach: int
) -> LargeAccount:
    p = float(row["p_lost"])
    if row["asks_renewal"] or row["is_pending"]:
        p = p if row["is_pending"] or row["renews_day"] < reach else 0.0
    else:
        p = float(left_within(np.array([p]), reach - book.at, request)[0])
    is_known = row["status"] == "notice_given"
    chance = None if is_known else 0.0 if row["is_signed"] else p
    return {
        "account_id": str(row["entity_id"]),
        "name": str(row["name"] if isinstance(row["name"], str) else row["entity_id"]),
        "segment": str(row["segment"]),
        "arr": float(row["arr"]),
        "share": float(row["share"]),
        "chance": chance,
        "expected_lost": float(row["arr"]) * (1.0 if chance is None else chance),
    }
